// What does a session mean for the person who looks at it? Pure.
import type { LinkedApp, Policy, Session, Target } from './api/types.ts';

const ENDED = ['Succeeded', 'PartiallySucceeded', 'Failed', 'Cancelled', 'Expired'];

export function phase(session: Session): string {
  return session.status?.phase ?? 'Pending';
}

export function ended(session: Session): boolean {
  return ENDED.includes(phase(session));
}

/** Three states, told apart: still collecting, finished with nothing, failed; else there is data. */
export type Outcome = 'collecting' | 'late' | 'nothing' | 'failed' | 'data';

export function outcome(session: Session): Outcome {
  const late = session.status?.conditions?.some((c) => c.type === 'ResultsDelayed' && c.status === 'True');
  if (!ended(session)) return late ? 'late' : 'collecting';
  if ((session.status?.samples ?? 0) > 0) return 'data';
  return phase(session) === 'Failed' || phase(session) === 'Expired' ? failedOrNothing(session) : 'nothing';
}

/** An idle app is not a fault. */
function failedOrNothing(session: Session): Outcome {
  return session.status?.reason === 'NoSamples' ? 'nothing' : 'failed';
}

/** The app of a session, or what it is asked to profile. */
export function app(session: Session): string {
  const target = session.spec.target;
  if (session.status?.app) return session.status.app;
  if (target?.workload) return `${target.workload.kind}/${target.workload.name}`;
  if (target?.pods) return target.pods.join(', ');
  return session.spec.policyRef ? `apps of ${session.spec.policyRef.name}` : 'pods by label';
}

/** Its targets, each with what those of its phase have in common: many targets say that once, in `status.shared`. */
export function targets(session: Session): Target[] {
  const { targets = [], shared = [] } = session.status ?? {};
  return targets.map((target) => {
    const { profiles: _, capture: __, ...facts } = shared.find(({ phase }) => phase === target.phase) ?? {};
    return { ...facts, ...target };
  });
}

/** The pods that were profiled: the first one, and how many more. */
export function instance(session: Session): string {
  const [first, ...more] = targets(session);
  if (!first) return '';
  return more.length === 0 ? first.pod : `${first.pod} + ${more.length}`;
}

/** The lowest coverage of its targets in percent: how far the profile holds what was used. */
export function coverage(session: Session): number | undefined {
  const known = targets(session).flatMap((target) => target.coverage ?? []);
  return known.length === 0 ? undefined : Math.min(...known);
}

/** The most that one of its targets was throttled, in % of its CPU limit's periods; nothing without a limit. */
export function throttled(session: Session): number | undefined {
  const known = targets(session).flatMap((target) => target.throttledPercent ?? []);
  return known.length === 0 ? undefined : Math.max(...known);
}

/** The lowest share of frames with names, in percent, of its targets or of one pod; nothing without native code. */
export function named(session: Session, pod?: string): number | undefined {
  const asked = targets(session).filter((target) => !pod || target.pod === pod);
  const known = asked.flatMap((target) => target.symbols?.named ?? []);
  return known.length === 0 ? undefined : Math.min(...known);
}

/** The verdict of a comparison of revisions. */
export function verdict(session: Session): string {
  const regressed = session.status?.conditions?.find((condition) => condition.type === 'Regressed');
  if (!regressed) return '';
  return { True: 'slower', False: 'not slower', Unknown: 'not decided' }[regressed.status];
}

/** The kinds of profiles that it has, the first one first. */
export function kinds(session: Session): string[] {
  const stored = targets(session).flatMap((target) => target.profiles ?? []);
  const found = new Set(stored.map((profile) => profile.type));
  const wanted = session.spec.profiles ?? ['cpu'];
  return [
    ...wanted.filter((kind) => found.has(kind)),
    ...[...found].filter((kind) => !wanted.includes(kind)),
  ];
}

/** The targets with data. */
export function profiled(session: Session): Target[] {
  return targets(session).filter((target) => (target.profiles ?? []).length > 0);
}

/** The runtimes of the targets with data. */
export function runtimes(session: Session): string[] {
  return [...new Set(profiled(session).flatMap((target) => target.runtime ?? []))];
}

/** How much of the capture is over, 0 to 1; nothing before it started. */
export function progress(session: Session, now: number): number | undefined {
  const began = Date.parse(session.status?.runningTime ?? '');
  if (Number.isNaN(began)) return undefined;
  // What was captured may still be uploading.
  if (session.status?.captureEndTime) return 1;
  return Math.min(Math.max((now - began) / (longest(session) * 1000), 0), 1);
}

/** Seconds that its longest capture takes: a policy with a goal for samples may need less than it allows. */
function longest(session: Session): number {
  const allowed = seconds(session.spec.duration ?? '2m');
  const needed = targets(session).map(({ effectiveDuration: less }) => (less ? seconds(less) : allowed));
  return needed.length === 0 ? allowed : Math.min(Math.max(...needed), allowed);
}

/** Seconds of a duration such as `1h30m`; 0 if it is none. */
export function seconds(duration: string): number {
  const units: Record<string, number> = { h: 3600, m: 60, s: 1, ms: 0.001 };
  let sum = 0;
  for (const [, amount, unit] of duration.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g))
    sum += Number(amount) * units[unit!]!;
  return sum;
}

/** How long ago, such as `5 min ago`. */
export function ago(time: string | undefined, now: number): string {
  const passed = (now - Date.parse(time ?? '')) / 1000;
  if (Number.isNaN(passed)) return '';
  if (passed < 5) return 'now';
  if (passed < 120) return `${Math.floor(passed)} s ago`;
  if (passed < 7200) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 172_800) return `${Math.floor(passed / 3600)} h ago`;
  return `${Math.floor(passed / 86_400)} days ago`;
}

/** When results that are late are given up. */
export function lastChance(session: Session): number | undefined {
  const end = Date.parse(session.status?.captureEndTime ?? '');
  return Number.isNaN(end) ? undefined : end + seconds(session.spec.resultDeadline ?? '24h') * 1000;
}

/** An app with the policy that links it. */
export interface App {
  app: LinkedApp;
  policy: { kind: string; name: string };
  namespace: string;
  last: Session | undefined;
}

/** All linked apps; `last` is the newest session with data that profiled it. */
export function apps(policies: Iterable<Policy>, sessions: Iterable<Session>): App[] {
  const last = new Map<string, Session>();
  for (const session of sessions) {
    if (outcome(session) !== 'data') continue;
    for (const target of targets(session)) {
      const key = `${session.metadata.namespace}/${target.workload}`;
      const known = last.get(key);
      if (!known || (known.status?.endTime ?? '') < (session.status?.endTime ?? '')) last.set(key, session);
    }
  }
  return [...policies].flatMap((policy) =>
    (policy.status?.linkedApps ?? []).map((app) => {
      const namespace = app.namespace || policy.metadata.namespace || '';
      const kind = policy.metadata.namespace ? 'ProfilingPolicy' : 'ClusterProfilingPolicy';
      const key = `${namespace}/${app.kind}/${app.name}`;
      return { app, policy: { kind, name: policy.metadata.name }, namespace, last: last.get(key) };
    }),
  );
}
