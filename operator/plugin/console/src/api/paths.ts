// Where are things in the Kubernetes API?

const ROOT = '/apis/fleetprof.dev/v1alpha1';
const DATA = '/apis/data.fleetprof.dev/v1alpha1';

export type Plural = 'profilesessions' | 'profilingpolicies' | 'clusterprofilingpolicies';

/** All objects of a kind, in one namespace or, with an empty one, in all. */
export function list(plural: Plural, namespace: string): string {
  return namespace === '' ? `${ROOT}/${plural}` : `${ROOT}/namespaces/${namespace}/${plural}`;
}

export function session(namespace: string, name: string): string {
  return `${list('profilesessions', namespace)}/${name}`;
}

/** A policy; one of the cluster has no namespace. */
export function policy({ namespace, name }: { namespace?: string; name: string }): string {
  const plural = namespace ? 'profilingpolicies' : 'clusterprofilingpolicies';
  return `${list(plural, namespace ?? '')}/${name}`;
}

/** A view of what a session captured. Empty parameters are left out. */
export function view(
  namespace: string,
  name: string,
  of: string,
  params: Record<string, string | undefined> = {},
): string {
  const path = `${DATA}/namespaces/${namespace}/profilesessions/${name}/${of}`;
  return path + query(params);
}

export function query(params: Record<string, string | undefined>): string {
  const given = Object.entries(params).filter((entry): entry is [string, string] => Boolean(entry[1]));
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`;
}
