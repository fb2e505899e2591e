// A profile in its views: as a graph, from both sides of a function, as a tree, and as a table.
import { signal } from '@preact/signals';
import { useMemo, useRef } from 'preact/hooks';
import { pathTo, type Tree } from '../flame/columns.ts';
import { describe } from '../flame/describe.ts';
import { clean, percent } from '../flame/format.ts';
import type { Graph, Shown } from '../flame/graph.ts';
import { ownRuntime } from '../flame/mine.ts';
import { countIn, type Found, nextOf, type Place, search } from '../flame/search.ts';
import { type FunctionRow, functions } from '../flame/table.ts';
import { figures } from '../flame/trust.ts';
import { asked, left, type Part, parts } from '../flame/views.ts';
import { route, setParams } from '../state.ts';
import { Canvas, Keys } from './canvas.tsx';
import { Functions } from './functions.tsx';
import { Outline } from './outline.tsx';
import { Filters, Search } from './search.tsx';

interface FlameProps {
  shown: Shown;
  /** Those of its targets. */
  runtimes: readonly string[];
  /** How many of its frames have names, in %, as the status says. */
  named: number | undefined;
}

/** A profile. */
export function Flame({ shown, runtimes, named }: FlameProps) {
  const { params } = route.value;
  const compared = shown.tree.base !== undefined;
  const own = ownRuntime(runtimes);
  const wanted = useMemo(
    () => asked(params, compared, own),
    [params.f, params.mine, params.view, params.of, compared, own],
  );
  const here = useMemo(() => left(shown, wanted), [shown, wanted.key]);
  const sides = useMemo(() => parts(here, wanted), [here, wanted.key]);
  return (
    <section aria-label="Profile">
      <Shape whole={shown} here={here} sides={sides} compared={compared}>
        <Filters compared={compared} problem={wanted.problem} own={own !== undefined} />
        <Above whole={shown} here={here.tree} of={wanted.title} named={named} />
      </Shape>
    </section>
  );
}

interface ShapeProps {
  whole: Shown;
  here: Shown;
  sides: readonly Part[];
  compared: boolean;
  children: preact.ComponentChildren;
}

function Shape({ whole, here, sides, compared, children }: ShapeProps) {
  const { params } = route.value;
  const text = params.q ?? '';
  const sums = useMemo(() => functions(here.tree), [here]);
  const byName = useMemo(() => new Map(sums.map((row) => [row.name, row])), [sums]);
  const found = useMemo(() => sides.map(({ tree, layout }) => search(tree, layout, text)), [sides, text]);
  const place = useMemo(() => signal<Place>({ part: sides.length - 1, row: 0 }), [sides]);
  const graphs = useMemo(() => sides.map(() => ({ current: null as Graph | null })), [sides]);
  const box = useRef<HTMLInputElement>(null);
  const keys = useRef<HTMLDetailsElement>(null);
  const match = (step: 1 | -1) => {
    const next = nextOf(found, place.value, step);
    if (!next) return;
    graphs[next.part]?.current?.select(next.row);
    place.value = next;
  };
  const load = (row: number) => {
    const way = [params.root, pathTo(whole.tree, row)].filter((part) => part).join('.');
    if (here === whole && sides[0]?.tree === whole.tree) setParams({ root: way }, false);
  };
  const common = { byName, match, load, box, keys };
  return (
    <>
      <Search box={box} match={match} compared={compared} {...countIn(found, place.value)} />
      {children}
      {params.view === 'table' && !params.of ? (
        <Functions tree={here.tree} rows={sums} found={found[0]} />
      ) : (
        <>
          <Selected part={sides[place.value.part]!} place={place.value} byName={byName} load={load} />
          <Sides {...common} sides={sides} found={found} graphs={graphs} place={place} />
        </>
      )}
    </>
  );
}

interface SidesProps {
  sides: readonly Part[];
  found: readonly (Found | undefined)[];
  graphs: readonly { current: Graph | null }[];
  place: { value: Place };
  byName: Map<number, FunctionRow>;
  match: (step: 1 | -1) => void;
  load: (row: number) => void;
  box: { current: HTMLInputElement | null };
  keys: { current: HTMLDetailsElement | null };
}

/** The graph, the two halves of a sandwich, or the call tree. */
function Sides({ sides, found, graphs, place, ...common }: SidesProps) {
  const { params } = route.value;
  const select = (part: number) => (row: number) => {
    place.value = { part, row };
  };
  if (params.view === 'tree' && !params.of)
    return (
      <Outline
        tree={sides[0]!.tree}
        found={found[0]}
        selected={place.value.row}
        current={() => place.value.row}
        select={select(0)}
        search={() => common.box.current?.focus()}
        match={common.match}
      />
    );
  return (
    <div class={sides.length > 1 ? 'sandwich' : ''}>
      {sides.map((side, part) => (
        <Canvas
          key={side.label}
          {...common}
          shown={side}
          flipped={side.flipped || (sides.length === 1 && params.flip === 'up')}
          label={side.label}
          found={found[part]}
          graph={graphs[part]!}
          selected={() => (place.value.part === part ? place.value.row : 0)}
          select={select(part)}
        />
      ))}
      <Keys sheet={common.keys} />
    </div>
  );
}

interface SelectedProps {
  part: Part;
  place: Place;
  byName: Map<number, FunctionRow>;
  load: (row: number) => void;
}

/** What is selected, in words, and what can be done with it. */
function Selected({ part, place, byName, load }: SelectedProps) {
  const { tree } = part;
  const row = Math.min(place.row, tree.size - 1);
  const name = tree.name[row]!;
  const lines = describe(tree, row, byName.get(name));
  return (
    <p id="selected" class="selected" aria-live="polite">
      <strong>{lines[0]}</strong> {lines.slice(1).join(' · ')}{' '}
      {(row > 0 || part.ofOne) && !tree.base && (
        <button type="button" onClick={() => setParams({ of: tree.names[name]! }, false)}>
          Callers and callees
        </button>
      )}{' '}
      {tree.pruned[row] !== 0 && part.whole && (
        <button type="button" onClick={() => load(row)}>
          Load what was left out below it
        </button>
      )}
    </p>
  );
}

interface AboveProps {
  whole: Shown;
  here: Tree;
  of: string;
  named: number | undefined;
}

/** What is shown: how much of the profile, how far to believe it, and where it begins. */
function Above({ whole, here, of, named }: AboveProps) {
  const { tree } = whole;
  const { source } = tree;
  const total = source.total || 1;
  return (
    <>
      {!tree.base && <Figures tree={tree} named={named} />}
      {source.above.length > 0 && (
        <p>
          Below {source.above.map(clean).slice(1).join(' › ') || 'the root'}{' '}
          <button type="button" onClick={() => setParams({ root: '' }, false)}>
            Show everything
          </button>
        </p>
      )}
      {here !== tree && (
        <p>
          Filtered: {percent(here.total[0]! / total)} of the profile is shown
          {here.size === 1 && ', and none of its functions'}.
          {source.prunedNodes > 0 && ' Functions that are left out are filtered with their callers.'}
        </p>
      )}
      {of && (
        <p>
          {clean(of)}{' '}
          <button type="button" onClick={() => setParams({ of: '' }, false)}>
            Show all functions
          </button>
        </p>
      )}
      {source.prunedNodes > 0 && here === tree && (
        <p class="plain">
          {percent(Math.abs(source.prunedValue) / total)} lies in {source.prunedNodes} small functions that
          are left out here and hatched; a double click on them loads them.
        </p>
      )}
      {tree.base && <Legend basis={tree.base.basis} />}
    </>
  );
}

function Figures({ tree, named }: { tree: Tree; named: number | undefined }) {
  const all = useMemo(() => figures(tree, named), [tree, named]);
  return (
    <p class="figures">
      {all.map(({ title, text, about }) => (
        <span key={title} title={about}>
          {title} <strong>{text}</strong>
        </span>
      ))}
    </p>
  );
}

function Legend({ basis }: { basis: 'perPodSecond' | 'share' | 'absolute' }) {
  const named = {
    perPodSecond: 'values per pod and second',
    share: 'shares of the totals',
    absolute: 'values',
  };
  return (
    <p class="legend">
      Compares {named[basis]}. <span class="swatch more" /> more <span class="swatch less" /> less{' '}
      <span class="swatch noise" /> may be chance. Boxes are as wide as both sides together.
    </p>
  );
}
