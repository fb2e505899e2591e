// Which boxes have to be painted? Those on the screen; neighbours narrower than a pixel are one grey run.
import type { Tree } from './columns.ts';
import { firstRightOf, type Layout } from './layout.ts';
import { contentRows, depthAt, ROW, type View, yOf } from './view.ts';

/** A box on the screen, in CSS pixels. */
export interface Box {
  row: number;
  x: number;
  y: number;
  width: number;
}

/** Neighbours that are too narrow to be told apart, or what was pruned. */
export interface Run {
  x: number;
  y: number;
  width: number;
  /** How many boxes it hides; 0 for what the answer left out. */
  hides: number;
  /** The first of them, or the node that calls what was left out. */
  row: number;
}

/** What to paint. */
export interface Painting {
  boxes: Box[];
  runs: Run[];
}

/** Boxes narrower than this many CSS pixels join a run. */
const NARROW = 1;

/** What of a tree is on the screen. */
export function cull(tree: Tree, layout: Layout, view: View): Painting {
  const painting: Painting = { boxes: [], runs: [] };
  const ends = [depthAt(view, 0, tree.deepest), depthAt(view, view.height, tree.deepest)];
  const first = Math.max(Math.min(...ends), 0);
  const last = Math.min(Math.max(...ends), contentRows(tree.deepest) - 1);
  for (let depth = first; depth <= last; depth++) {
    const y = yOf(view, depth, tree.deepest) - view.top;
    if (depth <= tree.deepest) cullRow(painting, layout, view, depth, y);
    if (depth > 0) cullPruned(painting, layout, view, depth - 1, y);
  }
  return painting;
}

function cullRow(painting: Painting, layout: Layout, view: View, depth: number, y: number): void {
  const zoom = view.width / (view.to - view.from);
  let run: Run | undefined;
  for (let at = firstRightOf(layout, depth, view.from); at < layout.from[depth + 1]!; at++) {
    const row = layout.rows[at]!;
    const left = layout.left[row]!;
    if (left >= view.to) break;
    const x = (Math.max(left, view.from) - view.from) * zoom;
    const end = (Math.min(left + layout.size[row]!, view.to) - view.from) * zoom;
    if (end - x >= NARROW) {
      run = undefined;
      painting.boxes.push({ row, x, y, width: end - x });
    } else if (run && x - (run.x + run.width) < NARROW) {
      run.width = end - run.x;
      run.hides++;
    } else {
      run = { x, y, width: end - x, hides: 1, row };
      painting.runs.push(run);
    }
  }
}

/** What was pruned below the nodes of a depth; parts narrower than half a pixel are not shown. */
function cullPruned(painting: Painting, layout: Layout, view: View, depth: number, y: number): void {
  const zoom = view.width / (view.to - view.from);
  for (let at = firstRightOf(layout, depth, view.from); at < layout.from[depth + 1]!; at++) {
    const row = layout.rows[at]!;
    if (layout.left[row]! >= view.to) break;
    const start = layout.prunedLeft[row]!;
    const x = (Math.max(start, view.from) - view.from) * zoom;
    const end = (Math.min(start + layout.prunedSize[row]!, view.to) - view.from) * zoom;
    if (end - x >= NARROW / 2) painting.runs.push({ x, y, width: end - x, hides: 0, row });
  }
}

/** The run at a place on the screen. */
export function runAt(painting: Painting, x: number, y: number): Run | undefined {
  return painting.runs.find(
    (run) => y >= run.y && y < run.y + ROW && x >= run.x - 1 && x <= run.x + run.width + 1,
  );
}
