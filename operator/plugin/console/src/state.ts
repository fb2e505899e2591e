// What does the page know? Signals: what is followed, where the page is, and who asks.
import { computed, effect, signal } from '@preact/signals';
import type { Api, Start } from './api/client.ts';
import { follow, type Live, loading, still } from './api/follow.ts';
import { list, type Plural } from './api/paths.ts';
import type { Policy, Session } from './api/types.ts';
import { clean } from './flame/format.ts';
import { notify, permission } from './notify.ts';
import { format, parse, type Route } from './route.ts';
import { app, ended, outcome, phase } from './sessions.ts';

export const api = signal<Api | undefined>(undefined);
export const start = signal<Start | undefined>(undefined);
export const route = signal<Route>(parse(location.hash));
/** The namespace that is shown; empty for all. */
export const namespace = signal('');
/** Set while all namespaces were asked for, and may not be read. */
export const narrowed = signal('');

export const sessions = signal<Live<Session>>(loading());
export const policies = signal<Live<Policy>>(loading());
export const clusterPolicies = signal<Live<Policy>>(loading());

export const allPolicies = computed(() => [
  ...policies.value.items.values(),
  ...clusterPolicies.value.items.values(),
]);
export const active = computed(() => [...sessions.value.items.values()].filter((session) => !ended(session)));
export const recent = computed(() => [...sessions.value.items.values()].filter(ended));

/** Now by the API server's clock, each second while something is running and anybody looks. */
export const clock = signal(Date.now());

export interface Toast {
  id: number;
  text: string;
  href: string;
  tone: 'good' | 'bad' | 'plain';
}
export const toasts = signal<Toast[]>([]);
let lastToast = 0;
const TOAST_MS = 15_000;

export function toast(text: string, tone: Toast['tone'], href = ''): void {
  const id = ++lastToast;
  toasts.value = [...toasts.value.slice(-3), { id, text, href, tone }];
  // What came while nobody looked stays until somebody has had the time to read it.
  const over = () => (document.hidden ? void setTimeout(over, TOAST_MS) : dismiss(id));
  setTimeout(over, TOAST_MS);
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((known) => known.id !== id);
}

/** Goes to another place; `replace` leaves no entry for Back. */
export function go(to: Partial<Route> & Pick<Route, 'pane'>, replace = false): void {
  const hash = format(to);
  if (replace) history.replaceState(null, '', hash);
  else history.pushState(null, '', hash);
  route.value = parse(hash);
}

/** Changes parameters of the place. */
export function setParams(params: Record<string, string>, replace = true): void {
  go({ ...route.value, params: { ...route.value.params, ...params } }, replace);
}

/** A policy as the API server just answered it, before those who follow it are told. */
export function learn(policy: Policy): void {
  const into = policy.metadata.namespace ? policies : clusterPolicies;
  into.value = { ...into.value, items: new Map(into.value.items).set(policy.metadata.uid, policy) };
}

/** How often cluster policies are listed; they change seldom. */
const POLL_MS = 20_000;

/** Whether anybody can see the page. A hidden one follows nothing: all tabs share six connections. */
const seen = signal(!document.hidden);
document.addEventListener('visibilitychange', () => {
  seen.value = !document.hidden;
});
/** A hidden page goes on with sessions, if it is to tell of the end of those that are running. */
const awaited = computed(() => seen.value || (permission.value === 'granted' && active.value.length > 0));

/** Follows everything while the page is seen, from the beginning whenever the namespace changes. */
export function followAll(client: Api): void {
  effect(() => {
    namespace.value;
    sessions.value = loading();
    policies.value = loading();
    clusterPolicies.value = loading();
  });
  effect(() => {
    const at = namespace.value;
    return awaited.value ? following<Session>(client, 'profilesessions', sessions, at) : undefined;
  });
  effect(() => {
    const at = namespace.value;
    return seen.value ? following<Policy>(client, 'profilingpolicies', policies, at) : undefined;
  });
  effect(() => {
    // It begins again with the namespace, as all of them do.
    namespace.value;
    const plural = 'clusterprofilingpolicies';
    return seen.value ? following<Policy>(client, plural, clusterPolicies, '', POLL_MS) : undefined;
  });
  effect(narrow);
  effect(announce);
  setInterval(() => {
    if (!document.hidden) clock.value = client.now();
  }, 1000);
}

/** Follows a list until the function that it returns is called. */
function following<T extends Session | Policy>(
  client: Api,
  plural: Plural,
  into: { value: Live<T> },
  where: string,
  poll = 0,
): () => void {
  const stop = new AbortController();
  const tell = later((live: Live<T>) => {
    if (!stop.signal.aborted) into.value = still(into.value, live);
  });
  void follow<T>(client, list(plural, where), { signal: stop.signal, tell, poll });
  return () => stop.abort();
}

/** The last of several values that come in quick succession, at most 10 times a second. */
function later<T>(tell: (value: T) => void): (value: T) => void {
  let waiting: T | undefined;
  return (value) => {
    if (waiting === undefined) {
      setTimeout(() => {
        const last = waiting as T;
        waiting = undefined;
        tell(last);
      }, 100);
    }
    waiting = value;
  };
}

/** Who may not read all namespaces is shown their own. */
function narrow(): void {
  const { state, code } = sessions.value;
  const own = start.value?.namespace ?? '';
  if (namespace.value === '' && state === 'failed' && code === 403 && own !== '') {
    narrowed.value = `You may not list the sessions of all namespaces, so those of ${own} are shown.`;
    namespace.value = own;
  }
}

let running = new Map<string, string>();

/** Says when a session that was seen running has ended. */
function announce(): void {
  const now = sessions.value;
  if (now.state === 'loading') {
    running = new Map();
    return;
  }
  for (const [uid, name] of running) {
    const session = now.items.get(uid);
    if (!session || !ended(session)) continue;
    const { namespace: at = '' } = session.metadata;
    const has = outcome(session) === 'data';
    const href = format({ pane: 'profile', namespace: at, name });
    const text = `${clean(app(session))}: ${phase(session)}`;
    toast(text, has ? 'good' : outcome(session) === 'failed' ? 'bad' : 'plain', href);
    notify(text, href);
  }
  running = new Map(active.value.map((session) => [session.metadata.uid, session.metadata.name]));
  document.title = running.size === 0 ? 'fleetprof' : `(${running.size}) fleetprof`;
}

window.addEventListener('popstate', () => {
  route.value = parse(location.hash);
});
window.addEventListener('hashchange', () => {
  route.value = parse(location.hash);
});
