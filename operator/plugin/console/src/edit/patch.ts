// What is sent to the API server when a policy is edited? What was changed, with what the console already owns:
// server-side apply takes away what its owner leaves out. Pure.
import type { ManagedFields, Policy } from '../api/types.ts';
import { at, type Edits, groups, isOn, isSet, type Json, TIMING, TIMINGS, valueAt } from './fields.ts';
import { kindOf, toYaml } from './yaml.ts';

/** Under which name the console's server applies; it adds the name itself. */
export const MANAGER = 'fleetprof-console';
/** What the console may set; its server passes nothing else on. */
const EDITABLE = ['schedule', 'triggers', 'sampling', 'frequencyHz', 'suspend'];
/** These lists are owned as a whole. */
const LISTS = ['triggers.alerts', 'triggers.promQL'];

/** The paths of the spec that are changed, and their new values; `undefined` for what is removed. */
export function changes(policy: Policy, edits: Edits): Map<string, Json | undefined> {
  const changed = new Map<string, Json | undefined>();
  for (const group of groups(policy, edits)) {
    const switched = group.trigger !== undefined && edits[group.trigger] !== undefined;
    if (group.trigger !== undefined && !isOn(policy, edits, group.trigger)) {
      if (switched) changed.set(group.trigger, undefined);
      continue;
    }
    for (const field of group.fields) {
      if (field.path === TIMING) continue;
      const text = valueAt(policy, edits, field.path);
      const initial = group.initial?.[field.path.slice((group.trigger?.length ?? 0) + 1)];
      const value = switched && text === '' ? initial : parsed(field.kind, text);
      if (value !== (at(policy.spec, field.path) ?? undefined)) changed.set(field.path, value);
    }
  }
  timing(policy, edits, changed);
  return lists(policy, changed);
}

function parsed(kind: string, text: string): Json | undefined {
  if (text === '') return undefined;
  if (kind === 'switch') return text === 'true';
  return kind === 'number' ? Number(text) : text;
}

/** Only one of the ways to say when may be left. */
function timing(policy: Policy, edits: Edits, changed: Map<string, Json | undefined>): void {
  const chosen = valueAt(policy, edits, TIMING);
  for (const name of TIMINGS)
    if (name !== chosen && isSet(policy, `schedule.${name}`)) changed.set(`schedule.${name}`, undefined);
  if (chosen !== 'cron' && isSet(policy, 'schedule.timeZone')) changed.set('schedule.timeZone', undefined);
}

/** Changes within a list, as a change of the list. */
function lists(policy: Policy, changed: Map<string, Json | undefined>): Map<string, Json | undefined> {
  const whole = new Map<string, Json | undefined>();
  for (const [path, value] of changed) {
    const list = LISTS.find((name) => path.startsWith(`${name}.`));
    if (list === undefined) {
      whole.set(path, value);
      continue;
    }
    const [index, field] = path.slice(list.length + 1).split('.');
    const copy = structuredClone(whole.get(list) ?? at(policy.spec, list)) as Record<string, Json>[];
    copy[Number(index)]![field!] = value!;
    whole.set(list, copy);
  }
  return whole;
}

/** The fields of the spec that a manager owns, as paths; only of what the console may set. */
export function owned(managed: ManagedFields): string[] {
  const spec = managed.fieldsV1?.['f:spec'];
  const found: string[] = [];
  const walk = (node: unknown, path: string[]) => {
    const here = typeof node === 'object' && node !== null ? Object.entries(node) : [];
    const below = here.filter(([key]) => key.startsWith('f:'));
    if (path.length > 0 && below.length === 0) found.push(path.join('.'));
    for (const [key, child] of below) walk(child, [...path, key.slice(2)]);
  };
  walk(spec, []);
  return found.filter((path) => EDITABLE.includes(path.split('.')[0]!));
}

/** The fields that the console has applied before. */
function own(policy: Policy): string[] {
  const applied = (policy.metadata.managedFields ?? []).filter(
    ({ manager, operation, subresource }) => manager === MANAGER && operation === 'Apply' && !subresource,
  );
  return applied.flatMap(owned);
}

/** Who else owns a field, or something in it. */
export function managers(policy: Policy, path: string): string[] {
  const others = (policy.metadata.managedFields ?? []).filter(
    ({ manager, subresource }) => manager !== MANAGER && !subresource,
  );
  const owning = others.filter((managed) =>
    owned(managed).some((field) => field === path || field.startsWith(`${path}.`)),
  );
  return [...new Set(owning.map(({ manager }) => manager))];
}

/** Triggers that are switched off, and that somebody else has set: to leave them out of an apply does nothing. */
function foreign(policy: Policy, edits: Edits): string[] {
  const gone = [...changes(policy, edits)].filter(([, value]) => value === undefined).map(([path]) => path);
  return gone.filter((path) => path.startsWith('triggers.') && managers(policy, path).length > 0);
}

/** The merge patch that takes away triggers that others have set, and their paths; nothing without any. */
export function toRemove(policy: Policy, edits: Edits): { patch: object; paths: string[] } | undefined {
  const paths = foreign(policy, edits);
  if (paths.length === 0) return undefined;
  const spec: Record<string, Json> = {};
  for (const path of paths) put(spec, path, null);
  const { resourceVersion } = policy.metadata;
  return { patch: { metadata: { resourceVersion }, spec }, paths };
}

/** The fields that the console owns and has emptied: the next apply, which leaves them out, takes them away. */
export function emptied(policy: Policy): string[] {
  return own(policy).filter((path) => at(policy.spec, path) === null);
}

/** The policy to apply: what was changed, and what the console owns. */
export function toApply(policy: Policy, edits: Edits): object {
  const changed = changes(policy, edits);
  const others = foreign(policy, edits);
  const spec: Record<string, Json> = {};
  for (const path of own(policy)) {
    // A trigger that is left to the patch stays whole until then: without a field of it, it would be refused.
    const gone = [...changed].some(
      ([field, value]) =>
        value === undefined && !others.includes(field) && (path === field || path.startsWith(`${field}.`)),
    );
    const value = at(policy.spec, path);
    if (!gone && value !== undefined && value !== null) put(spec, path, value);
  }
  for (const [path, value] of changed) {
    if (value !== undefined) put(spec, path, value);
    // A field that somebody else owns stays when it is left out: it has to be emptied.
    else if (!others.includes(path) && managers(policy, path).length > 0) put(spec, path, null);
  }
  const { name, namespace, resourceVersion } = policy.metadata;
  const metadata = { name, ...(namespace ? { namespace } : {}), resourceVersion };
  return { apiVersion: 'fleetprof.dev/v1alpha1', kind: kindOf(policy), metadata, spec };
}

/** Sets a field; the keys are those of `EDITABLE` and below. */
function put(spec: Record<string, Json>, path: string, value: Json): void {
  const keys = path.split('.');
  const last = keys.pop()!;
  let here = spec;
  for (const key of keys) {
    const next = here[key];
    if (typeof next !== 'object' || next === null || Array.isArray(next)) here[key] = {};
    here = here[key] as Record<string, Json>;
  }
  here[last] = value;
}

/** The change as YAML for a repository: a patch of Kustomize, or for kubectl patch --type=merge. Nulls remove. */
export function asYaml(policy: Policy, edits: Edits): string {
  const spec: Record<string, Json> = {};
  for (const [path, value] of changes(policy, edits)) put(spec, path, value ?? null);
  const { name, namespace } = policy.metadata;
  const metadata = { name, ...(namespace ? { namespace } : {}) };
  return toYaml({ apiVersion: 'fleetprof.dev/v1alpha1', kind: kindOf(policy), metadata, spec });
}
