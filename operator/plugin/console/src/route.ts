// What does the address say? The whole state of the page is in the hash, so that Back and links work.

export interface Route {
  pane: 'sessions' | 'apps' | 'now' | 'triggers' | 'profile';
  /** Of `profile`: namespace and name of the session. */
  namespace: string;
  name: string;
  params: Record<string, string>;
}

const PANES = ['sessions', 'apps', 'now', 'triggers', 'profile'] as const;

/** Reads a hash such as `#/profile/shop/orders-1?q=json`. What it does not know leads to the sessions. */
export function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#/, '').split(/\?(.*)/s);
  const [, first, namespace = '', name = ''] = path.split('/').map(decoded);
  const params = Object.fromEntries(new URLSearchParams(query));
  const pane = PANES.find((known) => known === first) ?? 'sessions';
  if (pane === 'profile' && (namespace === '' || name === ''))
    return { pane: 'sessions', namespace: '', name: '', params: {} };
  return { pane, namespace, name, params };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The hash of a route; empty parameters are left out. */
export function format(route: Partial<Route> & Pick<Route, 'pane'>): string {
  const path = [route.pane, route.namespace, route.name]
    .filter((part) => part)
    .map((part) => encodeURIComponent(part!));
  const params = Object.entries(route.params ?? {}).filter(([, value]) => value !== '');
  return `#/${path.join('/')}${params.length === 0 ? '' : `?${new URLSearchParams(params)}`}`;
}

/** The one-time code in the address that the command line prints, if it is one. */
export function codeIn(hash: string): string | undefined {
  return /^#code=([A-Za-z0-9_-]+)$/.exec(hash)?.[1];
}
