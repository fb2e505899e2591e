// The canvas of a flame graph, with what is under the pointer and under the keyboard.
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { describe, describeRun } from '../flame/describe.ts';
import { Graph, type Shown, type Under } from '../flame/graph.ts';
import { listen } from '../flame/input.ts';
import { KEYS } from '../flame/move.ts';
import type { Found } from '../flame/search.ts';
import type { FunctionRow } from '../flame/table.ts';
import { copy } from '../parts.tsx';

export interface CanvasProps {
  shown: Shown;
  /** Whether the root is at the bottom. */
  flipped: boolean;
  label: string;
  found: Found | undefined;
  byName: Map<number, FunctionRow>;
  graph: { current: Graph | null };
  selected: () => number;
  select: (row: number) => void;
  match: (step: 1 | -1) => void;
  load: (row: number) => void;
  box: { current: HTMLInputElement | null };
  keys: { current: HTMLDetailsElement | null };
}

interface At {
  lines: string[];
  x: number;
  y: number;
}

export function Canvas(props: CanvasProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const hover = useSignal<At | undefined>(undefined);
  useGraph(props, canvas, hover);
  const how = 'arrow keys select, Enter zooms, Escape shows everything. The table holds the same.';
  return (
    <>
      {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: its keys are those of the graph. */}
      <canvas
        ref={canvas}
        class="flame"
        tabIndex={0}
        role="application"
        aria-roledescription="flame graph"
        aria-label={`${props.label}: ${how}`}
        aria-describedby="selected"
      />
      {hover.value && <Hover {...hover.value} />}
    </>
  );
}

/** Has a graph on the canvas for as long as the tree and the direction stay the same. */
function useGraph(
  props: CanvasProps,
  canvas: { current: HTMLCanvasElement | null },
  hover: { value: At | undefined },
): void {
  const { shown, found, flipped, graph } = props;
  // What the listeners call is always that of the last rendering.
  const now = useRef(props);
  now.current = props;
  useEffect(() => {
    const element = canvas.current!;
    const made = new Graph(element, shown, flipped);
    graph.current = made;
    made.selected = now.current.selected();
    const unlisten = listen(element, made, page(now, hover));
    const sizes = new ResizeObserver(() => made.resize(element.clientWidth, element.clientHeight));
    sizes.observe(element);
    return () => {
      sizes.disconnect();
      unlisten();
      made.close();
      graph.current = null;
    };
  }, [shown, flipped]);
  useEffect(() => graph.current?.mark(found), [found, shown, flipped]);
}

/** The keys of the graph; `?` opens and closes them. */
export function Keys(props: { sheet: { current: HTMLDetailsElement | null } }) {
  return (
    <details ref={props.sheet}>
      <summary>Keys</summary>
      <dl class="keys">
        {KEYS.map(([keys, what]) => (
          <div key={keys}>
            <dt>{keys}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}

/** What the page does for the graph's listeners. */
function page(now: { current: CanvasProps }, hover: { value: At | undefined }) {
  const { tree } = now.current.shown;
  return {
    hover: (under: Under, x: number, y: number) => {
      const lines = !under
        ? []
        : 'run' in under
          ? describeRun(tree, under.run)
          : describe(tree, under.row, now.current.byName.get(tree.name[under.row]!));
      hover.value = lines.length === 0 ? undefined : { lines, x, y };
    },
    selected: (row: number) => now.current.select(row),
    load: (row: number) => now.current.load(row),
    match: (step: 1 | -1) => now.current.match(step),
    search: () => now.current.box.current?.focus(),
    keys: () => {
      const sheet = now.current.keys.current;
      if (!sheet) return;
      sheet.open = !sheet.open;
      sheet.scrollIntoView({ block: 'nearest' });
    },
    copy: (row: number) => copy(tree.names[tree.name[row]!]!),
  };
}

/** What is under the pointer, beside it. */
function Hover(props: { lines: string[]; x: number; y: number }) {
  const right = props.x > window.innerWidth / 2;
  const place = right
    ? { right: `${window.innerWidth - props.x + 12}px`, top: `${props.y + 12}px` }
    : { left: `${props.x + 12}px`, top: `${props.y + 12}px` };
  return (
    <div class="hover" style={place} aria-hidden="true">
      {props.lines.map((line, at) =>
        at === 0 ? <strong key={at}>{line}</strong> : <div key={at}>{line}</div>,
      )}
    </div>
  );
}
