// The pane of linked apps: what policies select, whether it can be profiled, and what to do if not.
import { useSignal } from '@preact/signals';
import { clean } from '../flame/format.ts';
import { Filter, PoliciesState, Table } from '../parts.tsx';
import { format } from '../route.ts';
import type { Column } from '../rows.ts';
import { type App, apps, coverage } from '../sessions.ts';
import { allPolicies, policies, sessions } from '../state.ts';
import { Ago, SessionLink } from './sessions.tsx';

type Show = 'all' | 'outdated' | 'not';

/** Which apps are shown. */
export function shows(show: Show, { app }: App): boolean {
  if (show === 'outdated') return (app.outdated ?? 0) > 0;
  return show === 'all' || app.linked < app.pods;
}

const profileNow = ({ app, namespace, policy }: App) =>
  format({
    pane: 'now',
    params: { namespace, policy: `${policy.kind}/${policy.name}`, app: `${app.kind}/${app.name}` },
  });

const COLUMNS: (Column<App> & { cell?: (row: App) => preact.ComponentChildren })[] = [
  { id: 'app', title: 'App', key: ({ app }) => clean(`${app.kind}/${app.name}`) },
  { id: 'namespace', title: 'Namespace', key: ({ namespace }) => namespace },
  { id: 'policy', title: 'Policy', key: ({ policy }) => policy.name },
  { id: 'container', title: 'Container', key: ({ app }) => app.container },
  { id: 'runtime', title: 'Runtime', key: ({ app }) => clean(app.runtime ?? '') },
  {
    id: 'pods',
    title: 'Pods',
    number: true,
    high: true,
    key: ({ app }) => app.pods,
    cell: ({ app }) => `${app.linked} of ${app.pods}`,
  },
  {
    id: 'state',
    title: 'State',
    key: ({ app }) => `${app.state} ${app.reason} ${app.message ?? ''}`,
    cell: (row) => <LinkState row={row} />,
  },
  {
    id: 'agent',
    title: 'Agent',
    key: ({ app }) => (app.agentVersions ?? []).join(', '),
    cell: (row) => <Agent row={row} />,
  },
  {
    id: 'last',
    title: 'Last profile',
    high: true,
    key: ({ app }) => app.lastProfileTime,
    cell: (row) => <Last row={row} />,
  },
  { id: 'now', title: 'Do', key: () => undefined, cell: (row) => <a href={profileNow(row)}>Profile now</a> },
];

function LinkState({ row }: { row: App }) {
  const { app } = row;
  const tone = app.state === 'Linked' ? 'good' : app.state === 'NotLinked' ? 'bad' : 'warn';
  return (
    <>
      <span class={`tag ${tone}`}>
        {app.state}
        {app.reason === app.state ? '' : ` · ${app.reason}`}
      </span>
      {app.message && <small class="message">{clean(app.message)}</small>}
    </>
  );
}

function Agent({ row }: { row: App }) {
  const { app } = row;
  return (
    <>
      {(app.agentModes ?? []).join(', ')} {(app.agentVersions ?? []).join(', ')}
      {(app.outdated ?? 0) > 0 && <span class="tag warn">{app.outdated} outdated</span>}
    </>
  );
}

function Last({ row }: { row: App }) {
  const found = row.last ? coverage(row.last) : undefined;
  return (
    <>
      <Ago time={row.app.lastProfileTime} />{' '}
      {row.last && (
        <SessionLink session={row.last} text={found === undefined ? 'open' : `open (${found} % covered)`} />
      )}
    </>
  );
}

const CHOICES: [Show, string][] = [
  ['all', 'All'],
  ['not', 'Cannot be profiled'],
  ['outdated', 'Outdated agent'],
];

interface Wanted {
  show: { value: Show };
  filter: { value: string };
}

/** Which of the apps are wanted. */
function Which({ all, show, filter }: Wanted & { all: readonly App[] }) {
  return (
    <fieldset class="choices">
      <legend class="hidden">Which apps</legend>
      {CHOICES.map(([value, title]) => (
        <label key={value}>
          <input
            type="radio"
            name="show"
            checked={show.value === value}
            onChange={() => {
              show.value = value;
            }}
          />
          {title} ({all.filter((row) => shows(value, row)).length})
        </label>
      ))}
      <Filter filter={filter} />
    </fieldset>
  );
}

/** What is not shown, and why. */
function Missing() {
  const cut = allPolicies.value.filter((policy) => policy.status?.linkedAppsTruncated);
  return (
    <>
      <PoliciesState />
      {cut.map(({ metadata, status }) => (
        <p key={metadata.uid} class="warn">
          {metadata.name} links {status?.linkedAppCount} apps; its status lists only{' '}
          {status?.linkedApps?.length}.
        </p>
      ))}
    </>
  );
}

export function Apps() {
  const filter = useSignal('');
  const show = useSignal<Show>('all');
  const all = apps(allPolicies.value, sessions.value.items.values());
  return (
    <>
      <h1>Linked apps</h1>
      <Missing />
      <Which all={all} show={show} filter={filter} />
      {policies.value.known && (
        <Table
          caption="Linked apps"
          rows={all.filter((row) => shows(show.value, row))}
          columns={COLUMNS}
          sorting={{ id: 'app', descending: false }}
          id={({ policy, namespace, app }) =>
            `${policy.kind}/${policy.name}/${namespace}/${app.kind}/${app.name}`
          }
          filter={filter.value}
          empty={all.length === 0 ? 'No policy links an app here.' : 'No such app.'}
        />
      )}
    </>
  );
}
