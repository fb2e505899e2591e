// The flame graph with all around it: search, what is under the pointer, and the table as its equal.
import { useSignal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { callers } from '../flame/callers.ts';
import { pathTo } from '../flame/columns.ts';
import { describe, describeRun } from '../flame/describe.ts';
import { clean, percent } from '../flame/format.ts';
import { Graph, type Shown, type Under } from '../flame/graph.ts';
import { listen } from '../flame/input.ts';
import { layout as layOut } from '../flame/layout.ts';
import { KEYS } from '../flame/move.ts';
import { type Found, nextMatch, rankOf, search } from '../flame/search.ts';
import { type FunctionRow, functions } from '../flame/table.ts';
import { route, setParams, toast } from '../state.ts';
import { Functions } from './functions.tsx';

export function Flame(props: { shown: Shown }) {
  const { params } = route.value;
  const upside = params.view === 'callers' && !props.shown.tree.base;
  const of = upside && params.of ? props.shown.tree.names.indexOf(params.of) : -1;
  const shown = useMemo(() => {
    if (!upside) return props.shown;
    const tree = callers(props.shown.tree, of >= 0 ? of : undefined);
    return { tree, layout: layOut(tree) };
  }, [props.shown, upside, of]);
  return <Shape key={`${upside} ${of}`} shown={shown} upside={upside} />;
}

function Shape({ shown, upside }: { shown: Shown; upside: boolean }) {
  const { params } = route.value;
  const { tree, layout } = shown;
  const text = params.q ?? '';
  const sums = useMemo(() => functions(tree), [tree]);
  const byName = useMemo(() => new Map(sums.map((row) => [row.name, row])), [sums]);
  const found = useMemo(() => search(tree, layout, text), [tree, layout, text]);
  const selected = useSignal(0);
  const graph = useRef<Graph | null>(null);
  const box = useRef<HTMLInputElement>(null);
  const match = (step: 1 | -1) => {
    const row = found && nextMatch(found, selected.value, step);
    if (row === undefined) return;
    graph.current?.select(row);
    selected.value = row;
  };
  const load = (row: number) =>
    !upside && setParams({ root: [params.root, pathTo(tree, row)].filter((part) => part).join('.') }, false);
  return (
    <section aria-label="Profile">
      <Search box={box} found={found} selected={selected.value} match={match} />
      {upside ? <Callers of={params.of ?? ''} /> : <Above shown={shown} />}
      {params.view === 'table' ? (
        <Functions tree={tree} rows={sums} found={found} />
      ) : (
        <Canvas
          shown={shown}
          found={found}
          byName={byName}
          graph={graph}
          selected={selected}
          match={match}
          load={load}
          upside={upside}
          box={box}
        />
      )}
    </section>
  );
}

interface SearchProps {
  box: { current: HTMLInputElement | null };
  found: Found | undefined;
  selected: number;
  match: (step: 1 | -1) => void;
}

function Search({ box, found, selected, match }: SearchProps) {
  const { params } = route.value;
  const rank = found ? rankOf(found, selected) : 0;
  const count = found
    ? rank > 0
      ? `${rank} of ${found.rows.length}`
      : `${found.rows.length} ${found.rows.length === 1 ? 'place' : 'places'}`
    : '';
  return (
    <div class="search">
      <label>
        Search{' '}
        <input
          ref={box}
          type="search"
          value={params.q ?? ''}
          placeholder="function, as text or pattern"
          onInput={(event) => setParams({ q: event.currentTarget.value })}
          onKeyDown={(event) => {
            if (event.key !== 'Enter') return;
            event.preventDefault();
            match(event.shiftKey ? -1 : 1);
          }}
        />
      </label>
      <button
        type="button"
        disabled={!found?.rows.length}
        onClick={() => match(-1)}
        aria-label="Previous match"
      >
        ◂
      </button>
      <button type="button" disabled={!found?.rows.length} onClick={() => match(1)} aria-label="Next match">
        ▸
      </button>
      <output>{found ? `${count}, ${percent(found.share)} of the total` : ''}</output>
      {found?.problem && <small class="warn">{found.problem}</small>}
      <span class="space" />
      <Toggle name="view" on="table" text="Table" />
      {!params.base && <Toggle name="view" on="callers" text="Callers" />}
      {params.view !== 'table' && <Toggle name="flip" on="up" text="Root at the bottom" />}
    </div>
  );
}

function Toggle(props: { name: string; on: string; text: string }) {
  const pressed = route.value.params[props.name] === props.on;
  return (
    <button
      type="button"
      aria-pressed={pressed}
      onClick={() => setParams({ [props.name]: pressed ? '' : props.on }, false)}
    >
      {props.text}
    </button>
  );
}

/** Where the tree begins, if it is a part; and what of it was left out. */
function Above({ shown }: { shown: Shown }) {
  const { source } = shown.tree;
  const basis = {
    perPodSecond: 'values per pod and second',
    share: 'shares of the totals',
    absolute: 'values',
  };
  return (
    <>
      {source.above.length > 0 && (
        <p>
          Below {source.above.map(clean).slice(1).join(' › ') || 'the root'}{' '}
          <button type="button" onClick={() => setParams({ root: '' }, false)}>
            Show everything
          </button>
        </p>
      )}
      {source.prunedNodes > 0 && (
        <p class="plain">
          {percent(Math.abs(source.prunedValue) / (source.total || 1))} lies in {source.prunedNodes} small
          functions that are left out here and hatched; a double click on them loads them.
        </p>
      )}
      {shown.tree.base && (
        <p class="legend">
          Compares {basis[shown.tree.base.basis]}. <span class="swatch more" /> more{' '}
          <span class="swatch less" /> less <span class="swatch noise" /> may be chance. Boxes are as wide as
          both sides together.
        </p>
      )}
    </>
  );
}

/** What the graph of callers shows. */
function Callers({ of }: { of: string }) {
  return (
    <p>
      {of
        ? `Who calls ${clean(of)}, by what it used with its callees.`
        : 'Who calls what, by what each function used itself.'}{' '}
      {of && (
        <button type="button" onClick={() => setParams({ of: '' }, false)}>
          Show all functions
        </button>
      )}
    </p>
  );
}

interface CanvasProps {
  shown: Shown;
  found: Found | undefined;
  byName: Map<number, FunctionRow>;
  graph: { current: Graph | null };
  selected: { value: number };
  match: (step: 1 | -1) => void;
  load: (row: number) => void;
  upside: boolean;
  box: { current: HTMLInputElement | null };
}

function Canvas(props: CanvasProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const hover = useSignal<{ lines: string[]; x: number; y: number } | undefined>(undefined);
  useGraph(props, canvas, hover);
  return (
    <>
      <Selected {...props} />
      {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: its keys are those of the graph. */}
      <canvas
        ref={canvas}
        class="flame"
        tabIndex={0}
        role="application"
        aria-roledescription="flame graph"
        aria-label="Flame graph: arrow keys select, Enter zooms, Escape shows everything. The table holds the same."
        aria-describedby="selected"
      />
      {hover.value && <Hover {...hover.value} />}
      <Keys />
    </>
  );
}

/** Has a graph on the canvas for as long as the tree and the direction stay the same. */
function useGraph(
  props: CanvasProps,
  canvas: { current: HTMLCanvasElement | null },
  hover: { value: { lines: string[]; x: number; y: number } | undefined },
): void {
  const { shown, found, byName, graph, selected } = props;
  const flipped = route.value.params.flip === 'up';
  // What the listeners call is always that of the last rendering.
  const now = useRef(props);
  now.current = props;
  useEffect(() => {
    const element = canvas.current!;
    const made = new Graph(element, shown, flipped);
    graph.current = made;
    made.selected = selected.value;
    const unlisten = listen(element, made, page(now, hover, shown, byName));
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

/** What is selected, in words, and what can be done with it. */
function Selected({ shown, byName, selected, upside, load }: CanvasProps) {
  const { tree } = shown;
  const row = Math.min(selected.value, tree.size - 1);
  const name = tree.name[row]!;
  const lines = describe(tree, row, byName.get(name));
  const callers = () => setParams({ view: 'callers', of: tree.names[name]! }, false);
  return (
    <p id="selected" class="selected" aria-live="polite">
      <strong>{lines[0]}</strong> {lines.slice(1).join(' · ')}{' '}
      {row > 0 && !tree.base && (
        <button type="button" onClick={callers}>
          Callers
        </button>
      )}{' '}
      {tree.pruned[row] !== 0 && !upside && (
        <button type="button" onClick={() => load(row)}>
          Load what was left out below it
        </button>
      )}
    </p>
  );
}

function Keys() {
  return (
    <details>
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
function page(
  now: { current: CanvasProps },
  hover: { value: { lines: string[]; x: number; y: number } | undefined },
  { tree }: Shown,
  byName: Map<number, FunctionRow>,
) {
  return {
    hover: (under: Under, x: number, y: number) => {
      const lines = !under
        ? []
        : 'run' in under
          ? describeRun(tree, under.run)
          : describe(tree, under.row, byName.get(tree.name[under.row]!));
      hover.value = lines.length === 0 ? undefined : { lines, x, y };
    },
    selected: (row: number) => {
      now.current.selected.value = row;
    },
    load: (row: number) => now.current.load(row),
    match: (step: 1 | -1) => now.current.match(step),
    search: () => now.current.box.current?.focus(),
    copy: (row: number) =>
      void navigator.clipboard.writeText(tree.names[tree.name[row]!]!).then(
        () => toast('Copied.', 'plain'),
        () => toast('The browser did not allow copying.', 'bad'),
      ),
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
