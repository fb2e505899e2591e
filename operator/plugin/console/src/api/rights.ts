// May the caller do this, and if not, what to say beside the button?
import { line } from '../lines.ts';
import { type Api, words } from './client.ts';

/** What is asked of a SelfSubjectAccessReview. */
export interface Right {
  group: string;
  resource: string;
  subresource?: string;
  verb: string;
  namespace: string;
  name?: string;
}

export interface Verdict {
  allowed: boolean;
  /** What is missing, and who has it; empty if allowed. */
  reason: string;
}

const KEPT_MS = 60_000;
const kept = new Map<string, { at: number; verdict: Promise<Verdict> }>();

/** Asks, and keeps the answer for a minute. `flags` choose the cluster, as in `missing`. */
export function may(api: Api, right: Right, flags: readonly string[]): Promise<Verdict> {
  const key = JSON.stringify(right);
  const known = kept.get(key);
  if (known && Date.now() - known.at < KEPT_MS) return known.verdict;
  const verdict = ask(api, right, flags);
  kept.set(key, { at: Date.now(), verdict });
  return verdict;
}

/** All of several rights; the first one that is missing says why. */
export async function mayAll(api: Api, rights: readonly Right[], flags: readonly string[]): Promise<Verdict> {
  const verdicts = await Promise.all(rights.map((right) => may(api, right, flags)));
  return verdicts.find((verdict) => !verdict.allowed) ?? { allowed: true, reason: '' };
}

async function ask(api: Api, right: Right, flags: readonly string[]): Promise<Verdict> {
  const { group, resource, subresource, verb, namespace, name } = right;
  const resourceAttributes = { group, resource, subresource, verb, namespace, name };
  const review = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes },
  };
  try {
    const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
    const { status } = await api.post<{ status: { allowed: boolean } }>(path, review);
    return status.allowed ? { allowed: true, reason: '' } : { allowed: false, reason: missing(right, flags) };
  } catch (error) {
    // Not known is not forbidden: the API server decides when it is asked to do it.
    kept.delete(JSON.stringify(right));
    return { allowed: true, reason: `Your permissions could not be checked: ${words(error)}` };
  }
}

/** Which right is missing, which role has it, and how somebody who may can give it, in the cluster of the flags. */
export function missing(right: Right, flags: readonly string[]): string {
  const resource = right.subresource ? `${right.resource}/${right.subresource}` : right.resource;
  const role = roleWith(right);
  const what = right.name ? `${resource} "${right.name}"` : resource;
  const [where, grant] =
    right.namespace === ''
      ? ['', ['create', 'clusterrolebinding']]
      : [` in namespace ${right.namespace}`, ['-n', right.namespace, 'create', 'rolebinding']];
  const words = ['kubectl', ...grant, role, `--clusterrole=${role}`, '--user=YOU'];
  return (
    `You may not ${right.verb} ${what}${where}. The ClusterRole ${role} allows it; ` +
    `an administrator can grant it: ${line(words, flags)}`
  );
}

function roleWith({ resource, verb }: Right): string {
  if (resource === 'pods') return 'fleetprof-attacher';
  if (verb !== 'patch' || resource === 'profilesessions') return 'fleetprof-runner';
  return resource === 'clusterprofilingpolicies' ? 'fleetprof-cluster-admin' : 'fleetprof-admin';
}

/** What it takes to edit a policy; one of the cluster has no namespace. */
export function toEdit({ namespace = '', name }: { namespace?: string; name: string }): Right[] {
  const resource = namespace === '' ? 'clusterprofilingpolicies' : 'profilingpolicies';
  return [{ group: 'fleetprof.dev', resource, verb: 'patch', namespace, name }];
}

/** What it takes to profile: creating sessions, and either the policy or the pods. */
export function toProfile(namespace: string, policy: { kind: string; name: string } | undefined): Right[] {
  const create: Right = { group: 'fleetprof.dev', resource: 'profilesessions', verb: 'create', namespace };
  if (!policy) {
    const pods = {
      group: '',
      resource: 'pods',
      subresource: 'ephemeralcontainers',
      verb: 'patch',
      namespace,
    };
    return [create, pods];
  }
  const resource =
    policy.kind === 'ClusterProfilingPolicy' ? 'clusterprofilingpolicies' : 'profilingpolicies';
  return [create, { group: 'fleetprof.dev', resource, verb: 'profile', namespace, name: policy.name }];
}

/** What it takes to cancel a session. */
export function toCancel(namespace: string, name: string): Right[] {
  return [{ group: 'fleetprof.dev', resource: 'profilesessions', verb: 'patch', namespace, name }];
}
