// What of a profile matches a search? Names are matched once each, and nested matches counted once.
import { outermost, type Tree } from './columns.ts';
import { percent } from './format.ts';
import type { Layout } from './layout.ts';

/** What was found. */
export interface Found {
  /** By name: whether it matches. */
  names: Uint8Array;
  /** Matching rows from left to right, without those below another match. */
  rows: number[];
  /** Their share of everything, 0 to 1. */
  share: number;
  /** Why the text is taken literally, if it was meant as a pattern. */
  problem?: string;
}

/** Makes a test of names: a regular expression without regard to case, or literal text if it is none. */
export function matcher(text: string): { test: (name: string) => boolean; problem?: string } {
  try {
    const pattern = new RegExp(text, 'i');
    return { test: (name) => pattern.test(name) };
  } catch (error) {
    const literal = text.toLowerCase();
    const why = error instanceof Error ? error.message.replace(/^.*: /, '') : 'it is not valid';
    return {
      test: (name) => name.toLowerCase().includes(literal),
      problem: `Not a regular expression (${why}): searched as plain text.`,
    };
  }
}

/** Searches a tree. An empty text finds nothing. */
export function search(tree: Tree, layout: Layout, text: string): Found | undefined {
  if (text === '') return undefined;
  const { test, problem } = matcher(text);
  const names = Uint8Array.from(tree.names, (name) => (test(name) ? 1 : 0));
  const rows = outermost(tree, names);
  const sum = rows.reduce((all, row) => all + layout.size[row]!, 0);
  return { names, rows, share: sum / layout.width, ...(problem === undefined ? {} : { problem }) };
}

/** A row of one of several trees that are shown together. */
export interface Place {
  part: number;
  row: number;
}

/** The match after or before a place, through all parts and around the ends. */
export function nextOf(found: readonly (Found | undefined)[], place: Place, step: 1 | -1): Place | undefined {
  const all = found.flatMap((one, part) => (one?.rows ?? []).map((row) => ({ part, row })));
  const before = (one: Place, other: Place) => one.part - other.part || one.row - other.row;
  if (step > 0) return all.find((match) => before(place, match) < 0) ?? all[0];
  return all.findLast((match) => before(match, place) < 0) ?? all.at(-1);
}

/** What was found, in words. */
export function countIn(found: readonly (Found | undefined)[], place: Place) {
  const [one, other] = found;
  const rank = (found[place.part]?.rows.indexOf(place.row) ?? -1) + 1;
  const places = (rows: readonly number[]) => `${rows.length} ${rows.length === 1 ? 'place' : 'places'}`;
  const any = found.some((part) => (part?.rows.length ?? 0) > 0);
  const problem = one?.problem;
  if (!one) return { count: '', any, problem };
  if (other)
    return { count: `${places(one.rows)} among callers, ${places(other.rows)} among callees`, any, problem };
  const count = rank > 0 ? `${rank} of ${one.rows.length}` : places(one.rows);
  return { count: `${count}, ${percent(one.share)} of the total`, any, problem };
}
