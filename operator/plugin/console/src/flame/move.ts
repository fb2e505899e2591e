// Where does a key lead in a call tree? Rows only; what is on the screen is the view's business.
import { type Tree, wayTo } from './columns.ts';

/** What a key does. */
export type Action =
  | { kind: 'select'; row: number }
  | { kind: 'zoom'; row: number }
  | { kind: 'step'; zoom: number; dx: number; dy: number }
  | { kind: 'match'; step: 1 | -1 }
  | { kind: 'search' }
  | { kind: 'keys' }
  | { kind: 'copy' };

/** How far a key pans, in CSS pixels. */
const PAN = 80;

/** The keys of the graph, for the list that `?` shows. */
export const KEYS: readonly [string, string][] = [
  ['← → ↑ ↓', 'select the sibling, the caller or the heaviest callee'],
  ['Enter', 'zoom to the selected function'],
  ['Esc', 'zoom out to everything'],
  ['+ −', 'zoom in and out; also Ctrl and the mouse wheel'],
  ['A D W S', 'pan; also by dragging'],
  ['/', 'search'],
  ['N  Shift N', 'next and previous match'],
  ['C', 'copy the name of the selected function'],
  ['?', 'show these keys'],
];

/** What a key does at a row; nothing for keys of others. */
export function action(tree: Tree, row: number, key: string): Action | undefined {
  const pan = (dx: number, dy: number): Action => ({ kind: 'step', zoom: 0, dx, dy });
  const zoom = (steps: number): Action => ({ kind: 'step', zoom: steps, dx: 0, dy: 0 });
  const select = (to: number): Action => ({ kind: 'select', row: to });
  const keys: Record<string, () => Action> = {
    ArrowUp: () => select(Math.max(tree.parent[row]!, 0)),
    ArrowDown: () => select(row + 1 < tree.end[row]! ? row + 1 : row),
    ArrowLeft: () => select(sibling(tree, row, -1)),
    ArrowRight: () => select(sibling(tree, row, 1)),
    Home: () => select(0),
    Enter: () => ({ kind: 'zoom', row }),
    Escape: () => ({ kind: 'zoom', row: 0 }),
    '+': () => zoom(1),
    '=': () => zoom(1),
    '-': () => zoom(-1),
    a: () => pan(-PAN, 0),
    d: () => pan(PAN, 0),
    w: () => pan(0, -PAN),
    s: () => pan(0, PAN),
    n: () => ({ kind: 'match', step: 1 }),
    N: () => ({ kind: 'match', step: -1 }),
    '/': () => ({ kind: 'search' }),
    c: () => ({ kind: 'copy' }),
    '?': () => ({ kind: 'keys' }),
  };
  return Object.hasOwn(keys, key) ? keys[key]?.() : undefined;
}

/** The next row of the same caller, or the row itself. */
export function sibling(tree: Tree, row: number, step: 1 | -1): number {
  const parent = tree.parent[row]!;
  if (parent < 0) return row;
  if (step > 0) return tree.end[row]! < tree.end[parent]! ? tree.end[row]! : row;
  let before = row;
  for (let child = parent + 1; child < row; child = tree.end[child]!) before = child;
  return before;
}

/** The nearest row above, itself included, whose box has some width. */
export function visible(tree: Tree, row: number, size: Float64Array): number {
  return wayTo(tree, row).findLast((above) => size[above]! > 0) ?? 0;
}
