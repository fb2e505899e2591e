// How does a list stay true? List, watch, and again: after 410 at once, after an error with growing pauses.
//
//   list ─► live ─(stream ends)─► watch again ─► live
//    ▲       └─(410)─► list          │
//    └──────(pause)◄── reconnecting ◄┘ (error)        403, 404: failed, asked again every minute
import { type Api, ApiError, words } from './client.ts';
import type { Meta } from './types.ts';

interface Item {
  metadata: Meta;
}

/** What is known of a list. While it reconnects, its items are those of before. */
export interface Live<T> {
  state: 'loading' | 'live' | 'reconnecting' | 'failed';
  items: ReadonlyMap<string, T>;
  /** Whether the items were read at least once: without that, none does not mean that there are none. */
  known: boolean;
  problem: string;
  code: number;
}

/** Nothing is known yet. */
export function loading<T>(): Live<T> {
  return { state: 'loading', items: new Map<string, T>(), known: false, problem: '', code: 0 };
}

/** What is known now: until a list is read again, what was known before still is. */
export function still<T>(before: Live<T>, now: Live<T>): Live<T> {
  return now.known ? now : { ...now, items: before.items, known: before.known };
}

interface Event<T> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  object: T & { code?: number; reason?: string; message?: string };
}

interface Page<T> {
  items: T[];
  metadata: { resourceVersion: string; continue?: string };
}

export interface Options<T> {
  tell: (live: Live<T>) => void;
  signal: AbortSignal;
  /** Lists again after so many ms instead of watching: a browser has six connections for all of its tabs. */
  poll?: number;
  /** Waits, for tests to be quick. */
  pause?: (ms: number) => Promise<void>;
  /** Calls back later, for tests to be quick; what it returns calls that off. */
  alarm?: (ms: number, ring: () => void) => () => void;
}

const PAGE = 500;
/** When the API server is asked to end a watch. By itself it would after 30 to 60 minutes. */
const WATCH_SECONDS = 290;
/** What has not ended by then never will: the connection is dead, and nobody has said so. */
const WATCH_MS = (WATCH_SECONDS + 20) * 1000;
/** The API server ends other requests after a minute. */
const LIST_MS = 80_000;
const FIRST_PAUSE = 1000;
const LAST_PAUSE = 30_000;
const REFUSED_PAUSE = 60_000;

/** Follows a list until the signal says stop. */
export async function follow<T extends Item>(api: Api, path: string, options: Options<T>): Promise<void> {
  const { tell, signal } = options;
  const pause = options.pause ?? sleep;
  let live = loading<T>();
  const say = (next: Partial<Live<T>>) => {
    live = { ...live, problem: '', code: 0, ...next };
    if (!signal.aborted) tell(live);
  };
  const one: Following<T> = { api, path, options, pause, say, items: () => live.items, wait: FIRST_PAUSE };
  let version: string | undefined;
  while (!signal.aborted) {
    try {
      version ??= await begin(one);
      version = options.poll ? await again(one, options.poll) : await goOn(one, version);
    } catch (error) {
      if (signal.aborted) return;
      version = await recover(one, error, version);
    }
  }
}

/** What the steps of following a list share. */
interface Following<T> {
  api: Api;
  path: string;
  options: Options<T>;
  pause: (ms: number) => Promise<void>;
  say: (next: Partial<Live<T>>) => void;
  items: () => ReadonlyMap<string, T>;
  /** The next pause after an error. */
  wait: number;
}

/** Lists everything; the version to watch from. */
async function begin<T extends Item>(one: Following<T>): Promise<string> {
  const { api, path, options, say } = one;
  const all = await within(options, LIST_MS, (until) => listAll<T>(api, path, until));
  if (options.poll) one.wait = FIRST_PAUSE;
  say({ state: 'live', items: all.items, known: true });
  return all.version;
}

/** Waits until it is time to list again. */
async function again<T>(one: Following<T>, poll: number): Promise<undefined> {
  await one.pause(poll);
  return undefined;
}

/** Watches until the stream ends; the version to go on from. */
async function goOn<T extends Item>(one: Following<T>, from: string): Promise<string> {
  const { api, path, options, say, items } = one;
  const heard = (change: Change<T>) => {
    one.wait = FIRST_PAUSE;
    say({ state: 'live', items: change(items()) });
  };
  const began = Date.now();
  const version = await within(options, WATCH_MS, (until) => watch<T>(api, path, from, until, heard));
  // A way that ends streams at once is not asked all the time.
  if (Date.now() - began < FIRST_PAUSE) await one.pause(FIRST_PAUSE);
  return version;
}

/** Says what went wrong and waits; the version to go on from, if there is one. */
async function recover<T>(
  one: Following<T>,
  error: unknown,
  version: string | undefined,
): Promise<string | undefined> {
  const code = error instanceof ApiError ? error.code : 0;
  if (code === 410) return undefined;
  const refused = [401, 403, 404].includes(code);
  one.say({ state: refused ? 'failed' : 'reconnecting', problem: words(error), code });
  await one.pause(refused ? REFUSED_PAUSE : one.wait);
  one.wait = Math.min(one.wait * 2, LAST_PAUSE);
  return code >= 400 ? undefined : version;
}

function sleep(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

function timer(ms: number, ring: () => void): () => void {
  const id = setTimeout(ring, ms);
  return () => clearTimeout(id);
}

/** Does a piece of work that is broken off when the signal says stop, or with an error after so many ms. */
async function within<R>(
  { signal, alarm = timer }: Pick<Options<unknown>, 'signal' | 'alarm'>,
  ms: number,
  work: (until: AbortSignal) => Promise<R>,
): Promise<R> {
  const late = new AbortController();
  const callOff = alarm(ms, () => late.abort(new ApiError(0, 'Dead', 'The connection is dead.')));
  try {
    return await work(AbortSignal.any([signal, late.signal]));
  } catch (error) {
    throw late.signal.aborted ? late.signal.reason : error;
  } finally {
    callOff();
  }
}

async function listAll<T extends Item>(api: Api, path: string, signal: AbortSignal) {
  const items = new Map<string, T>();
  let next = '';
  let page: Page<T>;
  do {
    const more = next === '' ? '' : `&continue=${encodeURIComponent(next)}`;
    page = await api.get<Page<T>>(`${path}?limit=${PAGE}${more}`, signal);
    for (const item of page.items) items.set(item.metadata.uid, item);
    next = page.metadata.continue ?? '';
  } while (next !== '');
  return { items, version: page.metadata.resourceVersion };
}

type Change<T> = (items: ReadonlyMap<string, T>) => ReadonlyMap<string, T>;

/** Watches until the stream ends; the version to go on from. */
async function watch<T extends Item>(
  api: Api,
  path: string,
  version: string,
  signal: AbortSignal,
  tell: (change: Change<T>) => void,
): Promise<string> {
  const query = `watch=1&allowWatchBookmarks=true&timeoutSeconds=${WATCH_SECONDS}&resourceVersion=${version}`;
  const response = await api.open(`${path}?${query}`, signal);
  // Says that it is live again after a reconnection.
  tell((items) => items);
  let at = version;
  for await (const events of batches<Event<T>>(response)) {
    for (const { type, object } of events) {
      if (type === 'ERROR') throw new ApiError(object.code ?? 500, object.reason ?? '', object.message ?? '');
      at = object.metadata.resourceVersion;
    }
    tell((items) => apply(items, events));
  }
  return at;
}

/** The items after some events. */
export function apply<T extends Item>(
  items: ReadonlyMap<string, T>,
  events: readonly Event<T>[],
): Map<string, T> {
  const next = new Map(items);
  for (const { type, object } of events) {
    if (type === 'DELETED') next.delete(object.metadata.uid);
    else if (type === 'ADDED' || type === 'MODIFIED') next.set(object.metadata.uid, object);
  }
  return next;
}

/** The lines of JSON of a stream, those that arrive together as one batch. */
export async function* batches<T>(response: Response): AsyncGenerator<T[]> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop()!;
    const full = lines.filter((line) => line !== '');
    if (full.length > 0) yield full.map((line) => JSON.parse(line) as T);
  }
}
