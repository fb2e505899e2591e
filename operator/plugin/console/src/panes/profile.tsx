// The pane of a profile: how far to believe it, its flame graph, its table, and what changed.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { type Api, ApiError, words } from '../api/client.ts';
import { session as pathOf, view } from '../api/paths.ts';
import { type Read, reread } from '../api/reread.ts';
import type { Session } from '../api/types.ts';
import { decode } from '../flame/columns.ts';
import { clean, count } from '../flame/format.ts';
import type { Shown } from '../flame/graph.ts';
import { layout } from '../flame/layout.ts';
import { profileLine } from '../lines.ts';
import { Command } from '../parts.tsx';
import {
  app,
  coverage,
  ended,
  kinds,
  named,
  outcome,
  profiled,
  progress,
  runtimes,
  targets,
  throttled,
} from '../sessions.ts';
import { api, clock, route, sessions, setParams, start, toast } from '../state.ts';
import { Flame } from './flame.tsx';
import { Cancel, Late, Phase } from './sessions.tsx';
import { Speedscope } from './speedscope.tsx';

export function Profile() {
  const { namespace, name } = route.value;
  const known = [...sessions.value.items.values()].find(
    ({ metadata }) => metadata.namespace === namespace && metadata.name === name,
  );
  const path = pathOf(namespace, name);
  const found = useReread(path, known === undefined && sessions.value.state !== 'loading');
  const session = known ?? found.object;
  const { problem } = known ? {} : found;
  if (session)
    return (
      <>
        {problem && (
          <p role="status" class="warn">
            Reconnecting; the session may be out of date. {problem}
          </p>
        )}
        <Known session={session} />
      </>
    );
  return (
    <>
      <h1>{name}</h1>
      {problem ? (
        <p role="alert" class="bad">
          {problem}
        </p>
      ) : (
        <p role="status">Loading…</p>
      )}
    </>
  );
}

/** A session that is not among those that are followed, such as one of another namespace. */
function useReread(path: string, wanted: boolean): Read<Session> {
  const found = useSignal<{ path: string; read: Read<Session> }>({ path, read: {} });
  useEffect(() => {
    if (!wanted) return;
    const stop = new AbortController();
    const tell = (read: Read<Session>) => {
      found.value = { path, read };
    };
    tell({});
    void reread(api.value!, path, { done: ended, tell, signal: stop.signal, seen: () => !document.hidden });
    return () => stop.abort();
  }, [path, wanted]);
  // Until the effect has run, what is known is of the address before this one.
  return found.value.path === path ? found.value.read : {};
}

function Known({ session }: { session: Session }) {
  const state = outcome(session);
  const { namespace = '', name } = session.metadata;
  return (
    <>
      <h1>
        {clean(app(session))}{' '}
        <small>
          {namespace} / {name}
        </small>
      </h1>
      <p>
        <Phase session={session} /> {clean(session.status?.message ?? '')}
      </p>
      {session.spec.context?.note && <p class="message">“{clean(session.spec.context.note)}”</p>}
      <Trust session={session} />
      {!ended(session) && <Collecting session={session} />}
      {state === 'nothing' && <p class="nothing">The session has ended and captured nothing.</p>}
      {state === 'failed' && (
        <p role="alert" class="bad">
          The session failed: there is no profile.
        </p>
      )}
      {state === 'data' && <Data session={session} />}
      <Targets session={session} />
    </>
  );
}

function Collecting({ session }: { session: Session }) {
  const done = progress(session, clock.value);
  return (
    <section class="card">
      <p role="status">Still collecting. The profile appears here by itself.</p>
      {outcome(session) === 'late' && <Late session={session} />}
      {done !== undefined && <progress value={done} max={1} aria-label="Capture" />}
      <Cancel session={session} />
    </section>
  );
}

/** How far to believe the profile. */
function Trust({ session }: { session: Session }) {
  const { status } = session;
  const share = (percent: number | undefined) => (percent === undefined ? '' : `${percent} %`);
  const facts: [string, string][] = [
    ['Samples', count(status?.samples ?? 0)],
    ['Targets', status?.targetsSummary ?? ''],
    ['Coverage', share(coverage(session))],
    ['CPU', share(status?.cpuPercent)],
    ['CPU throttled', share(throttled(session))],
    ['Memory', share(status?.memoryPercent)],
    ['Collector', [...new Set(targets(session).flatMap((target) => target.collector ?? []))].join(', ')],
  ];
  const doubts = (status?.conditions ?? []).filter(
    ({ type, status: is }) =>
      (is === 'False' && type === 'Representative') || (is === 'True' && type === 'TargetsLimited'),
  );
  const regressed = status?.conditions?.find(({ type }) => type === 'Regressed');
  return (
    <>
      <dl class="facts">
        {facts
          .filter(([, text]) => text !== '')
          .map(([title, text]) => (
            <div key={title}>
              <dt>{title}</dt>
              <dd>{text}</dd>
            </div>
          ))}
      </dl>
      {doubts.map(({ type, message }) => (
        <p key={type} class="warn">
          {clean(message)}
        </p>
      ))}
      {regressed && <p class={regressed.status === 'True' ? 'bad' : 'plain'}>{clean(regressed.message)}</p>}
    </>
  );
}

/** What happened to each target; open where something went wrong. */
function Targets({ session }: { session: Session }) {
  const all = targets(session);
  if (all.length === 0) return null;
  const fine = all.every((target) => target.phase === 'Succeeded' && !target.leftOut);
  return (
    <details open={!fine}>
      <summary>Targets ({all.length})</summary>
      <ul class="targets">
        {all.map((target) => (
          <li key={target.pod}>
            <strong>{target.pod}</strong> {target.container} · {clean(target.runtime ?? '')} · {target.phase}
            {target.reason ? ` · ${target.reason}` : ''} · {count(target.samples ?? 0)} samples
            {target.coverage === undefined ? '' : ` · ${target.coverage} % covered`}
            {target.throttledPercent ? ` · throttled in ${target.throttledPercent} % of its CPU periods` : ''}
            {target.message && <span class="message"> {clean(target.message)}</span>}
            {target.leftOut && <span class="warn"> Left out: {clean(target.leftOut)}</span>}
          </li>
        ))}
      </ul>
    </details>
  );
}

type Loaded =
  | { state: 'loading' }
  | { state: 'failed'; problem: string; code: number }
  | { state: 'shown'; shown: Shown };

function Data({ session }: { session: Session }) {
  const { params } = route.value;
  const { namespace = '', name } = session.metadata;
  const all = kinds(session);
  const type = params.type ?? all[0] ?? 'cpu';
  if (params.view === 'speedscope' && start.value?.speedscope) {
    const file = `${name}-${type}`;
    const path = view(namespace, name, 'profile', { type, pod: params.pod });
    return <Speedscope key={path} path={path} file={file} />;
  }
  return <Drawn session={session} type={type} all={all} />;
}

/** The profile in views of this page. */
function Drawn({ session, type, all }: { session: Session; type: string; all: string[] }) {
  const { params } = route.value;
  const { namespace = '', name } = session.metadata;
  const asked = { type, pod: params.pod, idle: params.idle, root: params.root };
  const path = params.base
    ? view(namespace, name, 'diff', { ...asked, base: params.base, format: 'flamegraph' })
    : view(namespace, name, 'flamegraph', { ...asked, format: 'json' });
  const loaded = useTree(path, session.status?.endTime);
  return (
    <>
      <Choices session={session} type={type} all={all} />
      {loaded.state === 'loading' && <p role="status">Loading the profile…</p>}
      {loaded.state === 'failed' && (
        <p role="alert" class="bad">
          The profile could not be read: {loaded.problem}
        </p>
      )}
      {loaded.state === 'shown' && (
        <Flame
          key={path}
          shown={loaded.shown}
          runtimes={runtimes(session)}
          named={named(session, params.pod)}
        />
      )}
      <Take session={session} type={type} />
    </>
  );
}

/** Reads a tree, again when the session changes; an answer that comes too late is dropped. */
function useTree(path: string, version: string | undefined): Loaded {
  const loaded = useSignal<Loaded>({ state: 'loading' });
  useEffect(() => {
    const stop = new AbortController();
    loaded.value = { state: 'loading' };
    readTree(api.value!, path, stop.signal).then(
      (shown) => {
        loaded.value = { state: 'shown', shown };
      },
      (error: unknown) => {
        if (stop.signal.aborted) return;
        loaded.value = {
          state: 'failed',
          problem: words(error),
          code: error instanceof ApiError ? error.code : 0,
        };
      },
    );
    return () => stop.abort();
  }, [path, version]);
  return loaded.value;
}

async function readTree(client: Api, path: string, signal: AbortSignal): Promise<Shown> {
  performance.mark('asked');
  const answer = await client.get<unknown>(path, signal);
  performance.mark('received');
  const tree = decode(answer);
  return { tree, layout: layout(tree) };
}

/** Which kind, which pod, compared with what. */
function Choices({ session, type, all }: { session: Session; type: string; all: string[] }) {
  const { params } = route.value;
  const pods = profiled(session).map(({ pod }) => pod);
  return (
    <div class="choices">
      {all.length > 1 && <Kinds type={type} all={all} />}
      {pods.length > 1 && (
        <label>
          Pod{' '}
          <select value={params.pod ?? ''} onChange={(event) => choose({ pod: event.currentTarget.value })}>
            <option value="">all {pods.length}</option>
            {pods.map((pod) => (
              <option key={pod}>{pod}</option>
            ))}
          </select>
        </label>
      )}
      <Base session={session} />
      {type === 'wall' && (
        <label>
          <input
            type="checkbox"
            checked={params.idle === 'true'}
            onChange={(event) => choose({ idle: event.currentTarget.checked ? 'true' : '' })}
          />
          Idle threads
        </label>
      )}
    </div>
  );
}

/** Another profile begins with its whole tree. */
function choose(params: Record<string, string>): void {
  setParams({ ...params, root: '' }, false);
}

function Kinds({ type, all }: { type: string; all: string[] }) {
  return (
    <fieldset class="tabs">
      <legend class="hidden">Kind of profile</legend>
      {all.map((kind) => (
        <button key={kind} type="button" aria-pressed={kind === type} onClick={() => choose({ type: kind })}>
          {kind}
        </button>
      ))}
    </fieldset>
  );
}

/** Other sessions of the app with data, the newest first. */
function Base({ session }: { session: Session }) {
  const { base } = route.value.params;
  const others = [...sessions.value.items.values()]
    .filter((other) => other.metadata.uid !== session.metadata.uid && outcome(other) === 'data')
    .filter((other) => other.metadata.namespace === session.metadata.namespace && app(other) === app(session))
    .sort((one, other) => ((one.status?.endTime ?? '') < (other.status?.endTime ?? '') ? 1 : -1));
  const named = others.some(({ metadata }) => metadata.name === base);
  return (
    <label>
      Compare with{' '}
      <select value={base ?? ''} onChange={(event) => choose({ base: event.currentTarget.value, view: '' })}>
        <option value="">nothing</option>
        {base && !named && <option>{base}</option>}
        {others.map(({ metadata, status }) => (
          <option key={metadata.uid} value={metadata.name}>
            {metadata.name} ({status?.endTime?.slice(0, 16)})
          </option>
        ))}
      </select>
    </label>
  );
}

/** Ways to take the profile elsewhere. */
function Take({ session, type }: { session: Session; type: string }) {
  const { namespace = '', name } = session.metadata;
  const { base, pod } = route.value.params;
  const save = async (of: string, params: Record<string, string>, file: string) => {
    try {
      const response = await api.value!.open(view(namespace, name, of, { type, pod, ...params }));
      const link = document.createElement('a');
      link.href = URL.createObjectURL(await response.blob());
      link.download = file;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      toast(`Not saved: ${words(error)}`, 'bad');
    }
  };
  const line = profileLine({ namespace, name, base }, start.value?.flags ?? []);
  return (
    <div class="take">
      <button type="button" onClick={() => void save('profile', {}, `${name}-${type}.pb.gz`)}>
        Save as pprof
      </button>
      <button
        type="button"
        onClick={() => void save('flamegraph', { format: 'html' }, `${name}-${type}.html`)}
      >
        Save as page
      </button>
      {start.value?.speedscope && !base && (
        <button type="button" onClick={() => setParams({ view: 'speedscope' }, false)}>
          Open in speedscope
        </button>
      )}
      {line && <Command line={line} />}
    </div>
  );
}
