// Which part of a call tree is on the screen? A range of values and a number of pixels scrolled; all pure.
import type { Tree } from './columns.ts';
import type { Layout } from './layout.ts';

/** Height of a row in CSS pixels. */
export const ROW = 18;
/** How far one step zooms. */
const STEP = 1.25;

/** What is shown. */
export interface View {
  /** Left and right edge, in units of the layout. */
  from: number;
  to: number;
  /** How far down it is scrolled, in CSS pixels. */
  top: number;
  /** The size of the screen in CSS pixels. */
  width: number;
  height: number;
  /** Whether the root is at the bottom. */
  flipped: boolean;
}

/** All of a tree. */
export function whole(layout: Layout, size: { width: number; height: number }, flipped = false): View {
  return { from: 0, to: layout.width, top: 0, ...size, flipped };
}

/** CSS pixels from the top of the content to a row. */
export function yOf(view: View, depth: number, deepest: number): number {
  return (view.flipped ? contentRows(deepest) - 1 - depth : depth) * ROW + slack(view, deepest);
}

/** With the root at the bottom, what is lower than the screen stands on its lower edge. */
function slack(view: View, deepest: number): number {
  return view.flipped ? Math.max(view.height - contentRows(deepest) * ROW, 0) : 0;
}

/** The depth at a place on the screen. */
export function depthAt(view: View, y: number, deepest: number): number {
  const line = Math.floor((y + view.top - slack(view, deepest)) / ROW);
  return view.flipped ? contentRows(deepest) - 1 - line : line;
}

/** Rows of the content: what was pruned below the deepest row has one, too. */
export function contentRows(deepest: number): number {
  return deepest + 2;
}

/** The value at a place on the screen. */
export function xAt(view: View, x: number): number {
  return view.from + (x / (view.width || 1)) * (view.to - view.from);
}

/** Keeps a view within the tree. */
export function clamp(view: View, layout: Layout, deepest: number): View {
  const span = Math.min(Math.max(view.to - view.from, layout.width * 1e-9), layout.width);
  const from = Math.min(Math.max(view.from, 0), layout.width - span);
  const lowest = Math.max(contentRows(deepest) * ROW - view.height, 0);
  return { ...view, from, to: from + span, top: Math.min(Math.max(view.top, 0), lowest) };
}

/** Zooms by steps; the value under `x` stays where it is. */
export function zoomAt(view: View, x: number, steps: number): View {
  const factor = STEP ** -steps;
  const fixed = xAt(view, x);
  return { ...view, from: fixed - (fixed - view.from) * factor, to: fixed + (view.to - fixed) * factor };
}

/** Moves by CSS pixels. */
export function pan(view: View, dx: number, dy: number): View {
  const values = (dx / (view.width || 1)) * (view.to - view.from);
  return { ...view, from: view.from + values, to: view.to + values, top: view.top + dy };
}

/** Makes a box as wide as the screen, and scrolls to it if it is not on it. */
export function zoomTo(view: View, layout: Layout, tree: Tree, row: number): View {
  const from = layout.left[row]!;
  return reveal({ ...view, from, to: from + (layout.size[row] || layout.width) }, layout, tree, row);
}

/** Moves as little as it takes to have a box on the screen. */
export function reveal(view: View, layout: Layout, tree: Tree, row: number): View {
  const next = { ...view };
  const span = view.to - view.from;
  const left = layout.left[row]!;
  const right = left + layout.size[row]!;
  const inside = left >= view.from - span * 1e-9 && right <= view.to + span * 1e-9;
  const covers = left <= view.from && right >= view.to;
  if (!inside && !covers) {
    const middle = Math.max(Math.min((left + right) / 2, layout.width), 0);
    const wanted = Math.min(span, Math.max((right - left) * 4, layout.width * 1e-9));
    next.from = middle - wanted / 2;
    next.to = middle + wanted / 2;
  }
  const y = yOf(view, tree.depth[row]!, tree.deepest);
  if (y < view.top + ROW) next.top = y - 2 * ROW;
  else if (y + 2 * ROW > view.top + view.height) next.top = y + 3 * ROW - view.height;
  return clamp(next, layout, tree.deepest);
}
