// How is one object outside of what is followed kept true? It is read again until it changes no more.
import { type Api, refuses, words } from './client.ts';

/** What is known of an object: the last answer, and why the last question had none. */
export interface Read<T> {
  object?: T;
  problem?: string;
}

export interface Rereading<T> {
  /** Whether the object changes no more. */
  done: (object: T) => boolean;
  tell: (read: Read<T>) => void;
  signal: AbortSignal;
  /** Whether anybody looks; nothing is asked while nobody does. */
  seen?: () => boolean;
  /** Waits, for tests to be quick. */
  pause?: (ms: number) => Promise<void>;
}

const PAUSE = 3000;

/** Reads an object every 3 s until it is done, it is refused, or the signal says stop; then tells nothing. */
export async function reread<T>(api: Api, path: string, options: Rereading<T>): Promise<void> {
  const { done, tell, signal, seen = () => true } = options;
  const pause = options.pause ?? ((ms) => new Promise<void>((over) => setTimeout(over, ms)));
  let read: Read<T> = {};
  for (; !signal.aborted; await pause(PAUSE)) {
    if (!seen()) continue;
    let last = false;
    try {
      const object = await api.get<T>(path, signal);
      read = { object };
      last = done(object);
    } catch (error) {
      read = { ...read, problem: words(error) };
      last = refuses(error);
    }
    if (signal.aborted) return;
    tell(read);
    if (last) return;
  }
}
