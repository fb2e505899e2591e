// Which part of a profile is shown? Perfetto's filter words, and "my code": frames of libraries and of the runtime are
// left out, and their amounts count for their callers. Pure.
import { compact, merged, Node, reached } from './build.ts';
import { outermost, type Tree } from './columns.ts';
import { matcher } from './search.ts';

/** What a word does. */
export type Word = 'SS' | 'HS' | 'SFF' | 'HF' | 'P';

/** The words, with their meanings in a sentence. */
export const WORDS: readonly [Word, string, string][] = [
  ['SS', 'show stack', 'only stacks with a matching function'],
  ['HS', 'hide stack', 'no stacks with a matching function'],
  ['SFF', 'show from frame', 'stacks begin at the outermost matching function; others are hidden'],
  ['HF', 'hide frame', 'matching functions are taken out: what they used counts for their callers'],
  ['P', 'pivot', 'callers and callees of the matching functions'],
];

/** One filter. */
export interface Filter {
  word: Word;
  text: string;
}

const WORD = /(?:^|\s)(SS|HS|SFF|HF|P|show stack|hide stack|show from frame|hide frame|pivot):/gi;

/** Reads filters such as `SS: orders HF: json`; or why they cannot be read. */
export function parseFilters(text: string): { filters: Filter[]; problem?: string } {
  const starts = [...text.matchAll(WORD)];
  const before = text.slice(0, starts[0]?.index ?? text.length).trim();
  const filters: Filter[] = [];
  const problems: string[] = [];
  if (before !== '') problems.push(`"${before}" has no word before it, such as SS: or HF:`);
  for (const [at, start] of starts.entries()) {
    const said = start[1]!.toLowerCase();
    const [word] = WORDS.find(([short, long]) => said === short.toLowerCase() || said === long)!;
    const pattern = text.slice(start.index + start[0].length, starts[at + 1]?.index).trim();
    const { problem } = matcher(pattern);
    if (pattern === '') problems.push(`${word}: needs a function after it`);
    else filters.push({ word, text: pattern });
    if (problem !== undefined && pattern !== '') problems.push(problem);
  }
  return problems.length === 0 ? { filters } : { filters, problem: problems.join('; ') };
}

/** Filters as text that is read back as them. */
export function formatFilters(filters: readonly Filter[]): string {
  return filters.map(({ word, text }) => `${word}: ${text}`).join(' ');
}

/** What a filter makes of the functions that match it. */
export function byName(tree: Tree, text: string): Uint8Array {
  const { test } = matcher(text);
  return Uint8Array.from(tree.names, (name) => (test(name) ? 1 : 0));
}

/** The tree as the filters leave it; a pivot is left to who shows it. Not of a comparison. */
export function filtered(tree: Tree, filters: readonly Filter[]): Tree {
  let left = tree;
  for (const { word, text } of filters) {
    const names = byName(tree, text);
    if (word === 'SS') left = stacks(left, names, true);
    else if (word === 'HS') left = stacks(left, names, false);
    else if (word === 'SFF') left = from(left, names);
    else if (word === 'HF') left = without(left, names);
  }
  return left;
}

/** Whether each row, or one above it, matches. */
function through(tree: Tree, names: Uint8Array): Uint8Array {
  const found = new Uint8Array(tree.size);
  for (let row = 0; row < tree.size; row++) {
    const above = tree.parent[row]!;
    // The root is the whole profile, and not a function.
    found[row] = row > 0 && (names[tree.name[row]!] === 1 || found[above] === 1) ? 1 : 0;
  }
  return found;
}

/** Only what was used by stacks through a matching function, or by all others. */
function stacks(tree: Tree, names: Uint8Array, wanted: boolean): Tree {
  const found = through(tree, names);
  const kept = (row: number) => (found[row] === 1) === wanted;
  const self = tree.self.map((value, row) => (kept(row) ? value : 0));
  const pruned = tree.pruned.map((value, row) => (kept(row) ? value : 0));
  return compact(tree, self, pruned);
}

/** Stacks from their outermost matching function on. */
function from(tree: Tree, names: Uint8Array): Tree {
  const root = new Node(tree.name[0]!);
  for (const row of outermost(tree, names, 1)) merged(tree, row, root);
  return reached(tree, root);
}

/** Without these functions: what they used themselves counts for their callers. */
export function without(tree: Tree, names: Uint8Array): Tree {
  const root = new Node(tree.name[0]!);
  const places: Node[] = [root];
  root.self = tree.self[0]!;
  root.pruned = tree.pruned[0]!;
  for (let row = 1; row < tree.size; row++) {
    const above = places[tree.parent[row]!]!;
    const hidden = names[tree.name[row]!] === 1;
    const here = hidden ? above : above.below(tree.name[row]!);
    here.self += tree.self[row]!;
    here.pruned += tree.pruned[row]!;
    places.push(here);
  }
  return reached(tree, root);
}
