// Where does each box of a call tree lie? From left to right in units of value, row by row.
import type { Tree } from './columns.ts';

/** How wide and where the boxes are. */
export interface Layout {
  /** Width of all, never 0. */
  width: number;
  left: Float64Array;
  size: Float64Array;
  /** What was left out below each node lies behind its children, and is so wide. */
  prunedLeft: Float64Array;
  prunedSize: Float64Array;
  /** The rows of each depth from left to right: `rows[from[d]]` to `rows[from[d + 1] - 1]`. */
  rows: Uint32Array;
  from: Uint32Array;
}

/** In a comparison, a value of each side on their common basis. */
export function onBasis(tree: Tree): { after: number; base: number } {
  const base = tree.base;
  if (!base) return { after: 1, base: 0 };
  if (base.basis === 'perPodSecond')
    return { after: 1 / (tree.source.podSeconds || 1), base: 1 / (base.source.podSeconds || 1) };
  if (base.basis === 'share')
    return { after: 100 / (tree.source.total || 1), base: 100 / (base.source.total || 1) };
  return { after: 1, base: 1 };
}

/**
 * Lays out a tree. A comparison has boxes as wide as both sides together, so that what went away has a box too.
 */
export function layout(tree: Tree): Layout {
  const scale = onBasis(tree);
  const wide = (after: Float64Array, base: Float64Array | undefined) =>
    after.map((value, row) => Math.abs(value) * scale.after + Math.abs(base?.[row] ?? 0) * scale.base);
  const size = wide(tree.total, tree.base?.total);
  const prunedSize = wide(tree.pruned, tree.base?.pruned);
  const left = new Float64Array(tree.size);
  const prunedLeft = new Float64Array(tree.size);
  for (let row = 0; row < tree.size; row++) {
    if (row > 0) {
      left[row] = prunedLeft[tree.parent[row]!]!;
      prunedLeft[tree.parent[row]!]! += size[row]!;
    }
    prunedLeft[row] = left[row]!;
  }
  return { width: size[0] || 1, left, size, prunedLeft, prunedSize, ...levels(tree) };
}

function levels(tree: Tree): Pick<Layout, 'rows' | 'from'> {
  const from = new Uint32Array(tree.deepest + 2);
  for (const depth of tree.depth) from[depth + 1]!++;
  for (let depth = 0; depth <= tree.deepest; depth++) from[depth + 1]! += from[depth]!;
  const next = from.slice();
  const rows = new Uint32Array(tree.size);
  for (let row = 0; row < tree.size; row++) rows[next[tree.depth[row]!]!++] = row;
  return { rows, from };
}

/** The place in `rows` of the first box of a depth that ends right of `x`. */
export function firstRightOf(layout: Layout, depth: number, x: number): number {
  let low = layout.from[depth]!;
  let high = layout.from[depth + 1]!;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const row = layout.rows[middle]!;
    if (layout.left[row]! + layout.size[row]! <= x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The box at a place, or -1. */
export function boxAt(layout: Layout, depth: number, x: number): number {
  if (depth < 0 || depth >= layout.from.length - 1) return -1;
  const place = firstRightOf(layout, depth, x);
  const row = place < layout.from[depth + 1]! ? layout.rows[place]! : -1;
  return row >= 0 && layout.left[row]! <= x ? row : -1;
}
