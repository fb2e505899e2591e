// The pane of sessions: those in progress, and those that have ended.
import { useSignal } from '@preact/signals';
import { words } from '../api/client.ts';
import { session as pathOf } from '../api/paths.ts';
import { toCancel } from '../api/rights.ts';
import type { Session } from '../api/types.ts';
import { clean, count } from '../flame/format.ts';
import { ask, permission } from '../notify.ts';
import { Button, Filter, State, Table } from '../parts.tsx';
import { format } from '../route.ts';
import type { Column } from '../rows.ts';
import { ago, app, coverage, instance, lastChance, outcome, phase, progress, verdict } from '../sessions.ts';
import { active, api, clock, recent, sessions, toast } from '../state.ts';

/** The link to a session's profile. */
export function SessionLink(props: { session: Session; text?: string }) {
  const { name, namespace = '' } = props.session.metadata;
  return <a href={format({ pane: 'profile', namespace, name })}>{props.text ?? name}</a>;
}

/** How a session ended, or where it is; with its reason. */
export function Phase(props: { session: Session }) {
  const { session } = props;
  const tones = { collecting: 'plain', late: 'warn', nothing: 'plain', failed: 'bad', data: 'good' } as const;
  const partly = phase(session) === 'PartiallySucceeded';
  return (
    <span
      class={`tag ${partly ? 'warn' : tones[outcome(session)]}`}
      title={clean(session.status?.message ?? '')}
    >
      {phase(session)}
      {session.status?.reason ? ` · ${session.status.reason}` : ''}
    </span>
  );
}

const percent = (amount: number | undefined) => (amount === undefined ? '' : `${amount} %`);

const COLUMNS: (Column<Session> & { cell?: (row: Session) => preact.ComponentChildren })[] = [
  { id: 'name', title: 'Session', key: (s) => s.metadata.name, cell: (s) => <SessionLink session={s} /> },
  { id: 'trigger', title: 'Triggered by', key: (s) => triggeredBy(s) },
  { id: 'namespace', title: 'Namespace', key: (s) => s.metadata.namespace },
  { id: 'app', title: 'App', key: (s) => clean(app(s)) },
  { id: 'instance', title: 'Instance', key: (s) => instance(s) },
  {
    id: 'time',
    title: 'Started',
    high: true,
    key: (s) => Date.parse(s.status?.startTime ?? s.metadata.creationTimestamp ?? '') || undefined,
    cell: (s) => <Ago time={s.status?.startTime ?? s.metadata.creationTimestamp} />,
  },
  {
    id: 'cpu',
    title: 'CPU',
    number: true,
    high: true,
    key: (s) => s.status?.cpuPercent,
    cell: (s) => percent(s.status?.cpuPercent),
  },
  {
    id: 'memory',
    title: 'Memory',
    number: true,
    high: true,
    key: (s) => s.status?.memoryPercent,
    cell: (s) => percent(s.status?.memoryPercent),
  },
  {
    id: 'samples',
    title: 'Samples',
    number: true,
    high: true,
    key: (s) => s.status?.samples,
    cell: (s) => count(s.status?.samples ?? 0),
  },
  {
    id: 'coverage',
    title: 'Coverage',
    number: true,
    high: true,
    key: coverage,
    cell: (s) => percent(coverage(s)),
  },
  { id: 'verdict', title: 'Verdict', key: verdict },
  {
    id: 'phase',
    title: 'Result',
    key: (s) => `${phase(s)} ${s.status?.reason ?? ''}`,
    cell: (s) => <Phase session={s} />,
  },
];

/** How long ago it was, updated as time passes; the tooltip shows the exact time. */
export function Ago(props: { time: string | undefined }) {
  return <time title={props.time}>{ago(props.time, clock.value)}</time>;
}

function triggeredBy(session: Session): string {
  const user = session.spec.requestedBy?.username;
  const trigger = session.spec.trigger ?? 'OnDemand';
  return trigger === 'OnDemand' && user ? clean(user) : trigger;
}

export function Sessions() {
  const filter = useSignal('');
  return (
    <>
      <h1>Sessions</h1>
      <State live={sessions.value} what="sessions" />
      <h2>In progress{sessions.value.known ? ` (${active.value.length})` : ''}</h2>
      {sessions.value.known && active.value.length === 0 && <p class="nothing">No session is in progress.</p>}
      {active.value.length > 0 && <Notify />}
      <ul class="cards">
        {active.value.map((session) => (
          <InProgress key={session.metadata.uid} session={session} />
        ))}
      </ul>
      <h2>Recent{sessions.value.known ? ` (${recent.value.length})` : ''}</h2>
      <Filter filter={filter} hint="app, pod, trigger, reason…" />
      {sessions.value.known && (
        <Table
          caption="Recent sessions"
          rows={recent.value}
          columns={COLUMNS}
          sorting={{ id: 'time', descending: true }}
          id={(session) => session.metadata.uid}
          filter={filter.value}
          empty={
            <>
              No session has ended yet. <a href="#/now">Profile now</a>
            </>
          }
        />
      )}
    </>
  );
}

/** Lets the browser tell of the end of sessions while the page is not looked at. */
function Notify() {
  if (permission.value === 'none') return null;
  if (permission.value === 'granted')
    return <p class="plain">The browser tells you when a session ends while this page is hidden.</p>;
  const reason = permission.value === 'denied' ? 'The browser does not allow it for this page.' : undefined;
  return (
    <Button onClick={() => void ask()} reason={reason}>
      Tell me when a session ends
    </Button>
  );
}

function InProgress(props: { session: Session }) {
  const { session } = props;
  const { status } = session;
  const done = progress(session, clock.value);
  const late = outcome(session) === 'late';
  return (
    <li class={`card ${late ? 'warn' : ''}`}>
      <strong>{clean(app(session))}</strong> <span>{session.metadata.namespace}</span>{' '}
      <Phase session={session} />
      <p>
        <SessionLink session={session} /> · {triggeredBy(session)} ·{' '}
        <Ago time={status?.startTime ?? session.metadata.creationTimestamp} />
        {status?.targetsSummary ? ` · targets ${status.targetsSummary}` : ''}
        {status?.samples ? ` · ${count(status.samples)} samples` : ''}
      </p>
      {done !== undefined && (
        <progress value={done} max={1} aria-label={`Capture of ${session.metadata.name}`} />
      )}
      {status?.message && <p class="message">{clean(status.message)}</p>}
      {late && <Late session={session} />}
      <Cancel session={session} />
    </li>
  );
}

/** Late is not failed: the results may still come. */
export function Late(props: { session: Session }) {
  const until = lastChance(props.session);
  return (
    <p class="warn">
      Results are late. They may still arrive
      {until ? ` until ${new Date(until).toISOString().slice(0, 16)} UTC` : ''}.
    </p>
  );
}

/** Stops a session; what it captured so far is kept. */
export function Cancel(props: { session: Session }) {
  const { name, namespace = '' } = props.session.metadata;
  const busy = useSignal(false);
  const cancel = async () => {
    busy.value = true;
    try {
      await api.value?.patch(pathOf(namespace, name), { spec: { cancel: true } });
      toast(`${name} is being cancelled; what it captured is kept.`, 'plain');
    } catch (error) {
      toast(`${name} was not cancelled: ${words(error)}`, 'bad');
    } finally {
      busy.value = false;
    }
  };
  const reason = props.session.spec.cancel ? 'It is being cancelled.' : undefined;
  return (
    <Button
      label={`Cancel ${name}`}
      onClick={cancel}
      busy={busy.value}
      reason={reason}
      rights={toCancel(namespace, name)}
    >
      Cancel
    </Button>
  );
}
