// Which fields of a policy can be edited, and what may be in them? Pure.
import type { Policy } from '../api/types.ts';
import { clean } from '../flame/format.ts';
import { seconds } from '../sessions.ts';

/** Part of an object of Kubernetes. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** What was changed: the path of a field, and its new text; empty where it was removed. */
export type Edits = Readonly<Record<string, string>>;

/** A field. */
export interface Field {
  /** Where it is in the spec, such as `triggers.cpu.threshold`. */
  path: string;
  label: string;
  kind: 'number' | 'duration' | 'text' | 'choice' | 'switch';
  /** Range of numbers, or of durations in seconds. */
  least?: number;
  most?: number;
  /** Numbers must be a multiple of it. */
  step?: number;
  hint?: string;
  choices?: readonly string[];
}

/** Fields that belong together: the schedule, the sampling, or one trigger. */
export interface Group {
  id: string;
  title: string;
  /** Where it is in the spec, if it can be switched on and off as a whole. */
  trigger?: string;
  /** What it has when it is switched on: what the schema would set. */
  initial?: Record<string, Json>;
  fields: readonly Field[];
}

const duration = (path: string, label: string, least: string, most: string): Field => ({
  path,
  label,
  kind: 'duration',
  least: seconds(least),
  most: seconds(most),
  hint: `${least} to ${most}`,
});
const number = (path: string, label: string, least: number, most: number, step = 1): Field => ({
  path,
  label,
  kind: 'number',
  least,
  most,
  step,
  hint: `${least} to ${most}${step === 1 ? '' : `, in steps of ${step}`}`,
});
const text = (path: string, label: string, hint: string): Field => ({ path, label, kind: 'text', hint });

/** How long is captured, and how long until the next session of the same workload. */
const after = (path: string): Field[] => [
  duration(`${path}.duration`, 'Capture', '10s', '6m'),
  duration(`${path}.cooldown`, 'Cooldown', '2m', '168h'),
];

/** A trigger that measures something. */
export interface Measured extends Group {
  trigger: string;
  /** What it measures, in a list. */
  word: string;
  /** Of its threshold. */
  unit: string;
}

/** Its title in the form, and its word in a list. */
type Titles = readonly [string, string];
/** The label of a threshold, its range and its step. */
type Limit = readonly [string, number, number, number];

function measured(name: string, [title, word]: Titles, threshold: Limit, initial: number): Measured {
  const path = `triggers.${name}`;
  const [label, least, most, step] = threshold;
  return {
    id: path,
    title,
    word,
    unit: label.includes('%') ? ' %' : '',
    trigger: path,
    initial: { threshold: initial, window: '30s', duration: '30s', cooldown: '4h' },
    fields: [
      number(`${path}.threshold`, label, least, most, step),
      duration(`${path}.window`, 'For at least', '10s', '1h'),
      ...after(path),
    ],
  };
}

const OF_TIME: Limit = ['Threshold, % of the time', 5, 100, 5];
const OF_LIMIT: Limit = ['Threshold, % of the limit', 1, 100, 1];

/** The triggers that measure something. */
export const MEASURED: readonly Measured[] = [
  measured('cpu', ['CPU', 'CPU'], OF_LIMIT, 80),
  measured('memory', ['Memory', 'memory'], OF_LIMIT, 80),
  measured('throttling', ['CPU throttling', 'throttling'], OF_TIME, 25),
  measured('pressure.cpu', ['Pressure: CPU', 'CPU pressure'], OF_TIME, 25),
  measured('pressure.memory', ['Pressure: memory', 'memory pressure'], OF_TIME, 25),
  measured('pressure.io', ['Pressure: block devices', 'I/O pressure'], OF_TIME, 25),
  measured('threads', ['Threads', 'threads'], ['Threshold, threads', 2, 1_000_000, 1], 500),
];

/** How a schedule says when: one of these. */
export const TIMINGS = ['every', 'cron', 'preset'] as const;
/** The field of the form that says which of them; the schema has none. */
export const TIMING = 'schedule.timing';

const OF_TIMING: Record<string, readonly Field[]> = {
  every: [duration('schedule.every', 'Interval', '1m', '168h')],
  cron: [
    text('schedule.cron', 'Cron expression', 'such as 0 3 * * MON-FRI'),
    text('schedule.timeZone', 'Time zone', 'such as Europe/Berlin; UTC if empty'),
  ],
  preset: [
    {
      path: 'schedule.preset',
      label: 'Share of the time',
      kind: 'choice',
      choices: ['Normal', 'High', 'Maximum'],
      hint: '5, 50 or 75 %',
    },
  ],
};

const FIXED: readonly Group[] = [
  {
    id: 'sampling',
    title: 'Sampling',
    fields: [
      number('frequencyHz', 'Samples per second', 1, 1000),
      number('sampling.percent', 'Pods per round, %', 0, 100),
      number('sampling.replicasPerWorkload', 'Pods per workload', 1, 50),
      number('sampling.maxTargets', 'Pods per round, at most', 1, 50),
    ],
  },
  ...MEASURED,
  {
    id: 'triggers.rollout',
    title: 'Rollout',
    trigger: 'triggers.rollout',
    initial: { delay: '1m', duration: '30s' },
    fields: [
      duration('triggers.rollout.delay', 'Delay', '0s', '24h'),
      duration('triggers.rollout.duration', 'Capture', '10s', '6m'),
    ],
  },
];

/** All groups of a policy, with those of its alerts and queries. */
export function groups(policy: Policy, edits: Edits): Group[] {
  const timing: Field = { path: TIMING, label: 'Rounds', kind: 'choice', choices: TIMINGS };
  const schedule: Group = {
    id: 'schedule',
    title: 'Schedule',
    fields: [
      timing,
      ...(OF_TIMING[valueAt(policy, edits, TIMING)] ?? []),
      duration('schedule.duration', 'Capture', '10s', '6m'),
      { path: 'suspend', label: 'Suspended', kind: 'switch' },
    ],
  };
  const { alerts = [], promQL = [] } = policy.spec.triggers ?? {};
  const ofAlerts = alerts.map((alert, at) => ({
    id: `triggers.alerts.${at}`,
    title: `Alert ${alert.matchers.join(', ')}`,
    fields: after(`triggers.alerts.${at}`),
  }));
  const ofQueries = promQL.map((query, at) => ({
    id: `triggers.promQL.${at}`,
    title: `Query ${query.name}`,
    fields: [
      duration(`triggers.promQL.${at}.for`, 'For at least', '0s', '24h'),
      ...after(`triggers.promQL.${at}`),
    ],
  }));
  return [schedule, ...FIXED, ...ofAlerts, ...ofQueries];
}

/** What is at a path of the spec. */
export function at(spec: unknown, path: string): Json | undefined {
  let here = spec as Json | undefined;
  for (const key of path.split('.')) {
    if (here === null || typeof here !== 'object') return undefined;
    const inside: Record<string, Json> = here as Record<string, Json>;
    here = Object.hasOwn(inside, key) ? inside[key] : undefined;
  }
  return here;
}

/** Whether a policy has something there; null is as nothing to the operator. */
export function isSet(policy: Policy, path: string): boolean {
  return (at(policy.spec, path) ?? undefined) !== undefined;
}

/** The text in a field: what was typed, else what the policy has. */
export function valueAt(policy: Policy, edits: Edits, path: string): string {
  if (edits[path] !== undefined) return edits[path];
  return stored(policy, path);
}

/** The text of a field as the policy has it. */
export function stored(policy: Policy, path: string): string {
  if (path === TIMING) return TIMINGS.find((name) => at(policy.spec, `schedule.${name}`)) ?? 'every';
  const value = at(policy.spec, path);
  return value === undefined || value === null ? '' : String(value);
}

/** Whether a trigger is on, also if that was just changed. */
export function isOn(policy: Policy, edits: Edits, trigger: string): boolean {
  const changed = edits[trigger];
  return changed === undefined ? isSet(policy, trigger) : changed !== '';
}

const OPTIONAL = ['schedule.timeZone', 'schedule.every', 'suspend'];

/** Why a text cannot be in a field; nothing if it can. The schema knows more, and the API server is asked. */
export function trouble(field: Field, value: string): string | undefined {
  if (value === '') return OPTIONAL.includes(field.path) ? undefined : `${field.label}: a value is missing.`;
  const { least = 0, most = Number.MAX_SAFE_INTEGER, step = 1 } = field;
  if (field.kind === 'number') {
    const amount = /^\d{1,7}$/.test(value) ? Number(value) : -1;
    if (amount < least || amount > most || amount % step !== 0)
      return `${field.label}: it must be a number from ${field.hint}.`;
  }
  if (field.kind === 'duration') {
    const length = /^(\d+h)?(\d+m)?(\d+s)?$/.test(value) ? seconds(value) : -1;
    if (length < least || length > most)
      return `${field.label}: it must be from ${field.hint}, written as in 1h30m or 90s.`;
  }
  return undefined;
}

/** The first field with a text that cannot be: of those that were changed, and of the timing that was chosen. */
export function problemIn(policy: Policy, edits: Edits): string | undefined {
  // A new timing without its value would leave none, and the policy would fall back to the default.
  const chosen = edits[TIMING] === undefined ? '' : `schedule.${edits[TIMING]}`;
  for (const group of groups(policy, edits)) {
    if (group.trigger && !isOn(policy, edits, group.trigger)) continue;
    for (const field of group.fields) {
      if (edits[field.path] === undefined && field.path !== chosen) continue;
      const found = trouble(field, valueAt(policy, edits, field.path));
      if (found) return `${clean(group.title)}: ${found}`;
    }
  }
  return undefined;
}
