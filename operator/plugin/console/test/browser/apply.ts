// Server-side apply, as far as the tests of the page need it: versions, owners of fields, conflicts, removal.
import type { ManagedFields, Policy } from '../../src/api/types.ts';

const CONSOLE = 'fleetprof-console';

type Tree = { [key: string]: unknown };

/** Paths of the leaves of a spec, with their values; a list is a leaf. */
function leaves(tree: Tree, above = ''): Map<string, unknown> {
  const found = new Map<string, unknown>();
  for (const [key, value] of Object.entries(tree)) {
    const path = above === '' ? key : `${above}.${key}`;
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      for (const [leaf, of] of leaves(value as Tree, path)) found.set(leaf, of);
    else found.set(path, value);
  }
  return found;
}

function put(tree: Tree, path: string, value: unknown): void {
  const [key, ...rest] = path.split('.') as [string, ...string[]];
  if (rest.length > 0) {
    tree[key] ??= {};
    put(tree[key] as Tree, rest.join('.'), value);
  } else if (value === undefined || value === null) delete tree[key];
  else tree[key] = value;
}

/** Managed fields of these paths. */
export function managing(manager: string, operation: 'Apply' | 'Update', paths: string[]): ManagedFields {
  const fields: Tree = {};
  for (const path of paths)
    put(
      fields,
      path
        .split('.')
        .map((key) => `f:${key}`)
        .join('.'),
      {},
    );
  return { manager, operation, fieldsV1: { 'f:spec': fields } };
}

function pathsOf({ fieldsV1 }: ManagedFields): string[] {
  const walk = (tree: Tree, above: string[]): string[] =>
    Object.keys(tree).length === 0
      ? [above.join('.')]
      : Object.entries(tree).flatMap(([key, below]) => walk(below as Tree, [...above, key.slice(2)]));
  return walk((fieldsV1?.['f:spec'] ?? {}) as Tree, []);
}

/** What an apply answers: the new policy, or a refusal with its code. */
export type Applied = { policy: Policy } | { code: number; status: object };

/** Merges a patch that takes fields away, which are nobody's from then on. */
function remove(policy: Policy, asked: Policy, version: string): Policy {
  const spec = structuredClone(policy.spec) as Tree;
  const gone = [...leaves(asked.spec as Tree).keys()];
  for (const path of gone) put(spec, path, undefined);
  const left = (field: string) => !gone.some((path) => field === path || field.startsWith(`${path}.`));
  const managedFields = (policy.metadata.managedFields ?? []).map((managed) =>
    managing(managed.manager, managed.operation, pathsOf(managed).filter(left)),
  );
  return { ...policy, metadata: { ...policy.metadata, resourceVersion: version, managedFields }, spec };
}

/** Applies a change to a policy, or says why not. */
export function apply(policy: Policy, asked: Policy, force: boolean, version: string): Applied {
  if (asked.metadata.resourceVersion !== policy.metadata.resourceVersion)
    return { code: 409, status: { reason: 'Conflict', message: 'the object has been modified' } };
  if (!asked.kind) return { policy: remove(policy, asked, version) };
  const wanted = leaves(asked.spec as Tree);
  const had = leaves(policy.spec as Tree);
  const managed = policy.metadata.managedFields ?? [];
  const others = managed.filter(({ manager }) => manager !== CONSOLE);
  const causes = [...wanted].flatMap(([path, value]) =>
    JSON.stringify(had.get(path)) === JSON.stringify(value)
      ? []
      : others
          .filter((other) => pathsOf(other).some((field) => field === path || field.startsWith(`${path}.`)))
          .map(({ manager }) => ({
            reason: 'FieldManagerConflict',
            message: `conflict with "${manager}"`,
            field: `.spec.${path}`,
          })),
  );
  if (causes.length > 0 && !force)
    return { code: 409, status: { reason: 'Conflict', message: 'Apply failed', details: { causes } } };
  const spec = structuredClone(policy.spec) as Tree;
  const before = managed.filter(({ manager }) => manager === CONSOLE).flatMap(pathsOf);
  for (const path of before) if (!wanted.has(path)) put(spec, path, undefined);
  for (const [path, value] of wanted) put(spec, path, value);
  const own = managing(CONSOLE, 'Apply', [...wanted.keys()]);
  const metadata = { ...policy.metadata, resourceVersion: version, managedFields: [...others, own] };
  return { policy: { ...policy, metadata, spec } };
}
