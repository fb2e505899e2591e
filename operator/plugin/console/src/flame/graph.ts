// How does a flame graph live? It holds one view, and paints at most once a frame, and only after a change.
import { byChange, byPackage, changes, DARK, LIGHT, palette, type Theme } from './colour.ts';
import type { Tree } from './columns.ts';
import { cull, type Painting, type Run, runAt } from './cull.ts';
import { boxAt, type Layout } from './layout.ts';
import { visible } from './move.ts';
import { FONT, fit, Names, paint } from './paint.ts';
import type { Found } from './search.ts';
import { clamp, depthAt, reveal, type View, whole, xAt, zoomTo } from './view.ts';

/** What is under the pointer. */
export type Under = { row: number } | { run: Run } | undefined;

/** A tree with all that is worked out of it once. */
export interface Shown {
  tree: Tree;
  layout: Layout;
}

/** The graph on one canvas. */
export class Graph {
  readonly shown: Shown;
  view: View;
  selected = 0;
  private found: Found | undefined;
  private painting: Painting = { boxes: [], runs: [] };
  private waiting = 0;
  private names: Names | undefined;
  private readonly canvas: HTMLCanvasElement;
  private readonly colours: Uint8Array;
  private readonly dark = matchMedia('(prefers-color-scheme: dark)');
  private readonly later = () => this.schedule();

  constructor(canvas: HTMLCanvasElement, shown: Shown, flipped: boolean) {
    this.canvas = canvas;
    this.shown = shown;
    this.view = whole(shown.layout, { width: canvas.clientWidth, height: canvas.clientHeight }, flipped);
    if (flipped)
      this.view = clamp({ ...this.view, top: Number.MAX_SAFE_INTEGER }, shown.layout, shown.tree.deepest);
    this.colours = shown.tree.base ? byChange(shown.tree) : byPackage(shown.tree);
    this.dark.addEventListener('change', this.later);
  }

  /** Stops listening and painting. */
  close(): void {
    this.dark.removeEventListener('change', this.later);
    cancelAnimationFrame(this.waiting);
  }

  /** Shows another part. */
  show(view: View): void {
    this.view = clamp(view, this.shown.layout, this.shown.tree.deepest);
    this.schedule();
  }

  /** Selects a row and has it on the screen. */
  select(row: number): void {
    const { tree, layout } = this.shown;
    this.selected = visible(tree, row, layout.size);
    this.view = reveal(this.view, layout, tree, this.selected);
    this.schedule();
  }

  /** Selects a row and makes it as wide as the screen. */
  zoom(row: number): void {
    const { tree, layout } = this.shown;
    this.selected = visible(tree, row, layout.size);
    this.view = zoomTo(this.view, layout, tree, this.selected);
    this.schedule();
  }

  /** Marks what was found. */
  mark(found: Found | undefined): void {
    this.found = found;
    this.schedule();
  }

  /** Follows the size of the canvas. */
  resize(width: number, height: number): void {
    this.show({ ...this.view, width, height });
  }

  /** What lies at a place on the canvas, in CSS pixels. */
  under(x: number, y: number): Under {
    const { tree, layout } = this.shown;
    const run = runAt(this.painting, x, y);
    if (run) return { run };
    const row = boxAt(layout, depthAt(this.view, y, tree.deepest), xAt(this.view, x));
    return row >= 0 ? { row } : undefined;
  }

  /** Paints in the next frame. */
  schedule(): void {
    if (this.waiting === 0) this.waiting = requestAnimationFrame(() => this.paint());
  }

  private paint(): void {
    this.waiting = 0;
    const { tree, layout } = this.shown;
    const context = fit(this.canvas, this.view.width, this.view.height);
    if (!context) return;
    const theme = this.dark.matches ? DARK : LIGHT;
    this.names ??= this.measured(context);
    this.painting = cull(tree, layout, this.view);
    paint(context, this.painting, { ...this.style(theme), selected: this.selected }, this.names);
    performance.mark('painted');
  }

  private style(theme: Theme) {
    const { tree } = this.shown;
    const found = this.found?.names;
    const compared = tree.base !== undefined;
    return {
      theme,
      palette: compared ? changes(theme) : palette(theme),
      colourOf: (row: number) => this.colours[compared ? row : tree.name[row]!]!,
      matches: (row: number) => found?.[tree.name[row]!] === 1,
      focused: document.activeElement === this.canvas,
    };
  }

  private measured(context: CanvasRenderingContext2D): Names {
    context.font = FONT;
    return new Names(this.shown.tree, (text) => context.measureText(text).width);
  }
}
