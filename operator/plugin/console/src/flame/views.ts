// Which trees does the address ask for? Filtered, upside down, or from both sides of a function. Pure.
import { callees, callers, named } from './callers.ts';
import type { Tree } from './columns.ts';
import { byName, type Filter, filtered, parseFilters, without } from './filter.ts';
import type { Shown } from './graph.ts';
import { layout } from './layout.ts';
import { foreign } from './mine.ts';

/** What the address asks for. */
export interface Asked {
  /** All of it: what is equal shows the same. */
  key: string;
  filters: readonly Filter[];
  /** Why the filters cannot be read. */
  problem: string | undefined;
  /** The runtime whose code is taken out; none shows all code. */
  mine: string | undefined;
  view: string;
  /** The function whose callers and callees are shown, or a pattern for several; empty for none. */
  of: string;
  pivot: string;
  /** What a sandwich shows. */
  title: string;
}

/** A tree on a canvas of its own. */
export interface Part extends Shown {
  label: string;
  /** Whether its root is at the bottom whatever the address says. */
  flipped: boolean;
  /** Whether its root is one function. */
  ofOne: boolean;
  /** Whether its rows are those of the answer, so that what was left out can be loaded. */
  whole: boolean;
}

/** Reads the address; `own` is the runtime whose code is known. A comparison is neither filtered nor turned. */
export function asked(
  params: Readonly<Record<string, string>>,
  compared: boolean,
  own: string | undefined,
): Asked {
  const { filters, problem } = parseFilters(compared ? '' : (params.f ?? ''));
  const mine = params.mine === '1' && !compared ? own : undefined;
  const of = compared ? '' : (params.of ?? '');
  const pivot = of === '' ? (filters.findLast(({ word }) => word === 'P')?.text ?? '') : '';
  // What was called callers before.
  const upside = params.view === 'inverted' || params.view === 'callers';
  const view = upside ? (compared ? '' : 'inverted') : (params.view ?? '');
  const what = of || (pivot && `functions like ${pivot}`);
  return {
    key: JSON.stringify([filters, mine, of, view === 'inverted']),
    filters,
    problem,
    mine,
    view,
    of,
    pivot,
    title: what && `Callers of ${what} above, what it calls below, by what it used with its callees.`,
  };
}

/** What the filters leave; the profile itself without any. */
export function left(shown: Shown, { filters, mine }: Asked): Shown {
  let { tree } = shown;
  if (mine !== undefined) tree = without(tree, foreign(tree, mine));
  tree = filtered(tree, filters);
  return tree === shown.tree ? shown : laidOut(tree);
}

function laidOut(tree: Tree): Shown {
  return { tree, layout: layout(tree) };
}

/** The parts of a view: one, or the two sides of a function. */
export function parts(here: Shown, { view, of, pivot, filters, mine }: Asked): Part[] {
  const { tree } = here;
  const none = { ofOne: false, whole: false };
  const names = of === '' ? byName(tree, pivot) : named(tree, tree.names.indexOf(of));
  if (of !== '' || pivot !== '') {
    const ofOne = of !== '' && tree.names.includes(of);
    return [
      { ...laidOut(callers(tree, names)), ...none, ofOne, label: 'Flame graph of callers', flipped: true },
      { ...laidOut(callees(tree, names)), ...none, ofOne, label: 'Flame graph of callees', flipped: false },
    ];
  }
  const one = { label: 'Flame graph', flipped: false, ...none };
  if (view === 'inverted') return [{ ...laidOut(callers(tree)), ...one }];
  return [{ ...here, ...one, whole: filters.length === 0 && mine === undefined }];
}
