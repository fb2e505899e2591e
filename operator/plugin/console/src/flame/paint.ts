// How does a call tree get onto a canvas? The canvas is as large as the screen, whatever the tree.

import type { Theme } from './colour.ts';
import type { Tree } from './columns.ts';
import type { Box, Painting } from './cull.ts';
import { clean, shorter } from './format.ts';
import { ROW } from './view.ts';

export const FONT = '12px system-ui, sans-serif';
/** Space left and right of a name, in CSS pixels. */
const PAD = 4;
/** Boxes narrower than this have no name. */
const NAMED = 24;

/** What to paint a tree with. */
export interface Style {
  theme: Theme;
  /** The colours, and for each box which of them. */
  palette: string[];
  colourOf: (row: number) => number;
  matches: (row: number) => boolean;
  selected: number;
  focused: boolean;
}

/** Names as they fit into boxes; each name is measured once. */
export class Names {
  private readonly forms: { text: string; width: number }[][] = [];
  private readonly tree: Tree;
  private readonly measure: (text: string) => number;

  constructor(tree: Tree, measure: (text: string) => number) {
    this.tree = tree;
    this.measure = measure;
  }

  /** The longest form of a row's name that fits into `width` CSS pixels. */
  fit(row: number, width: number): string {
    const name = this.tree.name[row]!;
    this.forms[name] ??= [this.tree.names[name]!, ...shorter(this.tree.names[name]!)].map((form) => {
      const text = clean(form);
      return { text, width: this.measure(text) };
    });
    const forms = this.forms[name];
    const fitting = forms.find((form) => form.width <= width);
    if (fitting) return fitting.text;
    const last = forms.at(-1)!;
    const letters = Math.floor((last.text.length * width) / (last.width || 1)) - 1;
    return letters > 1 ? `${last.text.slice(0, letters)}…` : '';
  }
}

/** Fits a canvas to its size in CSS pixels and the screen's dots. */
export function fit(
  canvas: HTMLCanvasElement,
  width: number,
  height: number,
): CanvasRenderingContext2D | null {
  const dots = window.devicePixelRatio || 1;
  const wanted = [Math.round(width * dots), Math.round(height * dots)] as const;
  if (canvas.width !== wanted[0]) canvas.width = wanted[0];
  if (canvas.height !== wanted[1]) canvas.height = wanted[1];
  const context = canvas.getContext('2d', { alpha: false });
  context?.setTransform(dots, 0, 0, dots, 0, 0);
  return context;
}

/** Paints what was culled: boxes by colour, then runs, names and the selection. */
export function paint(
  context: CanvasRenderingContext2D,
  painting: Painting,
  style: Style,
  names: Names,
): void {
  const { theme } = style;
  context.fillStyle = theme.back;
  // A page that is zoomed out has fewer dots than pixels of CSS.
  const dots = context.getTransform().a || 1;
  context.fillRect(0, 0, context.canvas.width / dots, context.canvas.height / dots);
  const found: Box[] = [];
  const byColour: Box[][] = style.palette.map(() => []);
  for (const box of painting.boxes) {
    (style.matches(box.row) ? found : byColour[style.colourOf(box.row)])?.push(box);
  }
  for (const [colour, boxes] of byColour.entries()) fill(context, boxes, style.palette[colour]!);
  fill(context, found, theme.found);
  context.fillStyle = theme.run;
  for (const run of painting.runs)
    if (run.hides > 0) context.fillRect(run.x, run.y, Math.max(run.width, 1), ROW - 1);
  hatch(context, painting, theme);
  label(context, painting.boxes, style, names);
  outline(context, painting.boxes, style);
}

function fill(context: CanvasRenderingContext2D, boxes: readonly Box[], colour: string): void {
  context.fillStyle = colour;
  for (const { x, y, width } of boxes) context.fillRect(x, y, width > 2 ? width - 0.5 : width, ROW - 1);
}

/** What was pruned is hatched, so that it does not only differ by colour. */
function hatch(context: CanvasRenderingContext2D, painting: Painting, theme: Theme): void {
  context.fillStyle = theme.pruned;
  for (const run of painting.runs) {
    if (run.hides > 0) continue;
    for (let y = 2; y < ROW - 1; y += 4)
      context.fillRect(run.x, run.y + y, Math.max(run.width - 0.5, 0.5), 2);
  }
}

function label(context: CanvasRenderingContext2D, boxes: readonly Box[], style: Style, names: Names): void {
  context.font = FONT;
  context.textBaseline = 'middle';
  for (const { row, x, y, width } of boxes) {
    if (width < NAMED) continue;
    const text = names.fit(row, width - 2 * PAD);
    if (text === '') continue;
    context.fillStyle = style.matches(row) ? style.theme.foundText : style.theme.text;
    context.fillText(text, x + PAD, y + ROW / 2);
  }
}

function outline(context: CanvasRenderingContext2D, boxes: readonly Box[], style: Style): void {
  const box = boxes.find(({ row }) => row === style.selected);
  if (!box) return;
  context.strokeStyle = style.theme.selected;
  context.lineWidth = style.focused ? 2 : 1;
  context.strokeRect(box.x + 1, box.y + 1, Math.max(box.width - 2, 1), ROW - 3);
}
