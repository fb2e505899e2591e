// How does a change of a policy reach the API server? First as a dry run, which tells who owns the same fields.
import { type Api, ApiError } from '../api/client.ts';
import { policy as pathOf, query } from '../api/paths.ts';
import type { Policy } from '../api/types.ts';
import type { Edits } from './fields.ts';
import { changes, emptied, managers, toApply, toRemove } from './patch.ts';

/** A field that somebody else has set. */
export interface Conflict {
  field: string;
  /** As the API server words it. */
  message: string;
}

/** How often a change is retried because the status of the policy, or another field, changed meanwhile. */
const TRIES = 4;
/** What the API server calls a field that somebody else has set. */
const CONFLICT = 'FieldManagerConflict';

/** The fields that others have set, if an error is about these. */
export function conflictsIn(error: unknown): Conflict[] {
  if (!(error instanceof ApiError) || error.code !== 409) return [];
  return error.causes
    .filter(({ reason }) => reason === CONFLICT)
    .map(({ field = '', message = '' }) => ({ field: field.replace(/^\./, ''), message }));
}

/** What of a change takes away triggers that others have set. */
function takenAway(policy: Policy, edits: Edits): Conflict[] {
  const owners = (path: string) =>
    managers(policy, path)
      .map((manager) => JSON.stringify(manager))
      .join(', ');
  const paths = toRemove(policy, edits)?.paths ?? [];
  return paths.map((path) => ({ field: `spec.${path}`, message: `set by ${owners(path)}` }));
}

/** Tries a change as a dry run. Throws what the API server rejects it for. */
export async function tryOut(api: Api, policy: Policy, edits: Edits): Promise<Conflict[]> {
  const conflicts = takenAway(policy, edits);
  try {
    await send(api, policy, edits, { dryRun: 'All' });
    return [];
  } catch (error) {
    conflicts.push(
      ...conflictsIn(error).filter(({ field }) => !conflicts.some((one) => one.field === field)),
    );
    if (conflicts.length === 0) throw error;
  }
  // Conflicts are reported before errors of the schema: these only show when the fields are taken over.
  await send(api, policy, edits, { dryRun: 'All', force: 'true' });
  return conflicts;
}

interface Options {
  dryRun?: 'All';
  /** Takes fields over that others have set; without, they are an error. */
  force?: 'true';
}

/** Applies a change, and takes away the triggers of others that are switched off. */
export async function send(api: Api, policy: Policy, edits: Edits, options: Options = {}): Promise<Policy> {
  const path = pathOf(policy.metadata);
  const { dryRun, force } = options;
  const removal = toRemove(policy, edits);
  const refused = removal !== undefined && !force;
  const more = changes(policy, edits).size > (removal?.paths.length ?? 0);
  const apply = (of: Edits) => (one: Policy) => api.apply<Policy>(path, toApply(one, of), { ...options });
  let now = policy;
  // What is refused changes nothing; a dry run says what else is in the way.
  if (more && (!refused || dryRun)) now = await retried(api, now, apply(edits));
  if (emptied(now).length > 0 && !dryRun) now = await retried(api, now, apply({}));
  if (!removal) return now;
  if (refused) {
    const causes = removal.paths.map((field) => ({ reason: CONFLICT, field: `.spec.${field}` }));
    throw new ApiError(409, 'Conflict', 'Other field managers have set these triggers.', causes);
  }
  return retried(api, dryRun ? policy : now, ({ metadata: { resourceVersion } }) =>
    api.patch<Policy>(path + query({ dryRun }), { ...removal.patch, metadata: { resourceVersion } }),
  );
}

/** Changes a policy, and tries again with a newer version as long as nobody has changed the spec that was shown. */
async function retried(
  api: Api,
  policy: Policy,
  change: (policy: Policy) => Promise<Policy>,
): Promise<Policy> {
  let now = policy;
  for (let tries = 1; ; tries++) {
    try {
      return await change(now);
    } catch (error) {
      if (!isOutdated(error) || tries === TRIES) throw error;
    }
    now = await api.get<Policy>(pathOf(policy.metadata));
    if (JSON.stringify(now.spec) !== JSON.stringify(policy.spec))
      throw new ApiError(
        409,
        'Conflict',
        'Somebody else has just changed this policy: review it, then try again.',
      );
  }
}

/** Whether the object has a newer version. */
function isOutdated(error: unknown): boolean {
  return error instanceof ApiError && error.code === 409 && conflictsIn(error).length === 0;
}
