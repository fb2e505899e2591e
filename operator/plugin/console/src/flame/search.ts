// What of a profile matches a search? Names are matched once each, and nested matches counted once.
import type { Tree } from './columns.ts';
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
  const rows: number[] = [];
  let sum = 0;
  for (let row = 0; row < tree.size; ) {
    if (names[tree.name[row]!]) {
      rows.push(row);
      sum += layout.size[row]!;
      row = tree.end[row]!;
    } else row++;
  }
  return { names, rows, share: sum / layout.width, ...(problem === undefined ? {} : { problem }) };
}

/** The match after (`step` 1) or before (-1) a row, around the ends. */
export function nextMatch(found: Found, row: number, step: 1 | -1): number | undefined {
  const { rows } = found;
  if (rows.length === 0) return undefined;
  if (step > 0) return rows.find((match) => match > row) ?? rows[0];
  return rows.findLast((match) => match < row) ?? rows[rows.length - 1];
}

/** Which match a row is, as in "3 of 12"; 0 if it is none. */
export function rankOf(found: Found, row: number): number {
  return found.rows.indexOf(row) + 1;
}
