// The pane Triggers: when policies profile by themselves, and the form that changes it.
import { useSignal } from '@preact/signals';
import type { Policy } from '../api/types.ts';
import { ownerOf } from '../edit/owner.ts';
import { clean } from '../flame/format.ts';
import { Filter, PoliciesState, Table } from '../parts.tsx';
import { format } from '../route.ts';
import type { Column } from '../rows.ts';
import { allPolicies, policies, route } from '../state.ts';
import { triggersOf } from '../triggers.ts';
import { Edit } from './policy.tsx';

/** How the address names a policy. */
const idOf = ({ metadata }: Policy) => `${metadata.namespace ?? ''}/${metadata.name}`;

const ready = ({ status }: Policy) => status?.conditions?.find(({ type }) => type === 'Ready');

const COLUMNS: (Column<Policy> & { cell?: (row: Policy) => preact.ComponentChildren })[] = [
  {
    id: 'name',
    title: 'Policy',
    key: ({ metadata }) => metadata.name,
    cell: (policy) => (
      <a href={format({ pane: 'triggers', params: { policy: idOf(policy) } })}>{policy.metadata.name}</a>
    ),
  },
  {
    id: 'namespace',
    title: 'Namespace',
    key: ({ metadata }) => metadata.namespace ?? '(cluster)',
  },
  { id: 'schedule', title: 'Schedule', key: ({ spec, status }) => schedule(spec.suspend, status?.schedule) },
  { id: 'triggers', title: 'Triggers', key: (policy) => triggersOf(policy).map(clean).join(', ') || 'none' },
  {
    id: 'next',
    title: 'Next round',
    key: ({ status }) => status?.nextSessionTime,
    cell: ({ status }) => <time>{status?.nextSessionTime?.slice(0, 16).replace('T', ' ')}</time>,
  },
  { id: 'apps', title: 'Apps', number: true, high: true, key: ({ status }) => status?.linkedAppCount },
  {
    id: 'ready',
    title: 'State',
    key: (policy) => `${ready(policy)?.status} ${ready(policy)?.reason}`,
    cell: (policy) => <Ready policy={policy} />,
  },
  { id: 'owner', title: 'Managed by', key: (policy) => ownerOf(policy)?.tool },
];

function schedule(suspended = false, text = ''): string {
  return suspended ? `suspended (${text})` : text;
}

function Ready({ policy }: { policy: Policy }) {
  const condition = ready(policy);
  if (!condition) return null;
  return (
    <span class={`tag ${condition.status === 'True' ? 'good' : 'warn'}`} title={clean(condition.message)}>
      {condition.reason}
    </span>
  );
}

/** The policy that the address names. */
function chosen(): Policy | undefined {
  return allPolicies.value.find((policy) => idOf(policy) === route.value.params.policy);
}

export function Triggers() {
  const filter = useSignal('');
  const policy = chosen();
  const named = route.value.params.policy;
  return (
    <>
      <h1>Triggers</h1>
      <PoliciesState />
      {policy && <Edit key={policy.metadata.uid} policy={policy} />}
      {!policy && named && policies.value.known && (
        <p role="alert" class="bad">
          There is no policy {clean(named)} here.
        </p>
      )}
      <h2>Policies</h2>
      <Filter filter={filter} />
      {policies.value.known && (
        <Table
          caption="Policies"
          rows={allPolicies.value}
          columns={COLUMNS}
          sorting={{ id: 'name', descending: false }}
          id={({ metadata }) => metadata.uid}
          filter={filter.value}
          empty="There is no policy here."
        />
      )}
    </>
  );
}
