// What do mouse, touch and keys do to a flame graph?
import type { Graph, Under } from './graph.ts';
import { action } from './move.ts';
import { pan, zoomAt } from './view.ts';

/** What the page around the graph does. */
export interface Page {
  hover: (under: Under, x: number, y: number) => void;
  selected: (row: number) => void;
  load: (row: number) => void;
  match: (step: 1 | -1) => void;
  search: () => void;
  keys: () => void;
  copy: (row: number) => void;
}

/** A press that moved farther than this, in CSS pixels, is a drag and not a click. */
const SLACK = 4;
const WHEEL_STEP = 120;

/** Listens on a canvas until the function that it returns is called. */
export function listen(canvas: HTMLCanvasElement, graph: Graph, page: Page): () => void {
  const stop = new AbortController();
  const on = <K extends keyof HTMLElementEventMap>(
    name: K,
    listener: (event: HTMLElementEventMap[K]) => void,
  ) => canvas.addEventListener(name, listener, { signal: stop.signal, passive: false });
  pointers(on, canvas, graph, page);
  doubleClicks(on, graph, page);
  on('wheel', (event) => wheel(event, graph));
  on('keydown', (event) => key(event, graph, page));
  on('focus', () => graph.schedule());
  on('blur', () => graph.schedule());
  return () => stop.abort();
}

type On = <K extends keyof HTMLElementEventMap>(
  name: K,
  listener: (event: HTMLElementEventMap[K]) => void,
) => void;

/** A double click loads what was left out under its first press: that click zooms, and something else may lie
 * under the pointer by the second. */
function doubleClicks(on: On, graph: Graph, page: Page): void {
  let presses: Under[] = [];
  on('pointerdown', (event) => {
    presses = [...presses.slice(-1), graph.under(event.offsetX, event.offsetY)];
  });
  on('dblclick', () => {
    const [under] = presses;
    if (under && 'run' in under && under.run.hides === 0) page.load(under.run.row);
  });
}

/** Drags with one pointer, pinches with two; a press without a move is a click. */
function pointers(on: On, canvas: HTMLCanvasElement, graph: Graph, page: Page): void {
  const down = new Map<number, { x: number; y: number }>();
  let moved = 0;
  on('pointerdown', (event) => {
    if (down.size === 0) moved = 0;
    down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    canvas.setPointerCapture(event.pointerId);
  });
  on('pointermove', (event) => {
    const last = down.get(event.pointerId);
    if (!last) {
      page.hover(graph.under(event.offsetX, event.offsetY), event.clientX, event.clientY);
      return;
    }
    const [dx, dy] = [event.offsetX - last.x, event.offsetY - last.y];
    moved += Math.abs(dx) + Math.abs(dy);
    down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    if (moved <= SLACK) return;
    page.hover(undefined, 0, 0);
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    graph.show(other ? pinch(graph, last, event, other) : pan(graph.view, -dx, -dy));
  });
  const up = (event: PointerEvent) => {
    if (!down.delete(event.pointerId) || moved > SLACK || event.type !== 'pointerup') return;
    click(graph.under(event.offsetX, event.offsetY), graph, page);
  };
  on('pointerup', up);
  on('pointercancel', up);
  on('pointerleave', () => page.hover(undefined, 0, 0));
}

function pinch(graph: Graph, last: { x: number }, event: PointerEvent, other: { x: number }) {
  const [before, now] = [Math.abs(last.x - other.x), Math.abs(event.offsetX - other.x)];
  return zoomAt(graph.view, other.x, Math.log(Math.max(now, 1) / Math.max(before, 1)) / Math.log(1.25));
}

/** A click on a box zooms to it; one on a grey run zooms in there. */
function click(under: Under, graph: Graph, page: Page): void {
  if (!under) return;
  if ('run' in under && under.run.hides > 0) {
    graph.show(zoomAt(graph.view, under.run.x, 6));
    return;
  }
  const row = 'run' in under ? under.run.row : under.row;
  graph.zoom(row);
  page.selected(row);
}

/** The wheel scrolls; with Ctrl, Alt or Meta, as a pinch on a touch pad says it, it zooms. */
function wheel(event: WheelEvent, graph: Graph): void {
  event.preventDefault();
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 18 : 1;
  const zooms = event.ctrlKey || event.altKey || event.metaKey;
  const [dx, dy] = event.shiftKey ? [event.deltaY, 0] : [event.deltaX, event.deltaY];
  const steps = (-event.deltaY * lines * 2) / WHEEL_STEP;
  graph.show(zooms ? zoomAt(graph.view, event.offsetX, steps) : pan(graph.view, dx * lines, dy * lines));
}

function key(event: KeyboardEvent, graph: Graph, page: Page): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const wanted = action(graph.shown.tree, graph.selected, event.key);
  if (!wanted) return;
  event.preventDefault();
  const { view } = graph;
  if (wanted.kind === 'match') page.match(wanted.step);
  else if (wanted.kind === 'search') page.search();
  else if (wanted.kind === 'keys') page.keys();
  else if (wanted.kind === 'copy') page.copy(graph.selected);
  else if (wanted.kind === 'step')
    graph.show(pan(zoomAt(view, view.width / 2, wanted.zoom), wanted.dx, wanted.dy));
  else {
    if (wanted.kind === 'zoom') graph.zoom(wanted.row);
    else graph.select(wanted.row);
    page.selected(graph.selected);
  }
}
