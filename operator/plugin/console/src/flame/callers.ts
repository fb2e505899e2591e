// Who calls what is expensive, and what does it call? A call tree upside down, and both sides of a function.
import { merged, Node, reached } from './build.ts';
import { outermost, type Tree } from './columns.ts';

/** Most nodes: the heaviest ways get them, what is left counts as left out where its way ends. */
const MOST = 200_000;

/** Where a way from a function to the outermost caller begins, and what it weighs. */
interface Start {
  row: number;
  weight: number;
}

/**
 * The tree upside down. With `of`, by name, of these functions, by what they and their callees used; a single one
 * is the root. Without, of all functions, by what each used itself. Not of a comparison, whose noise is known for
 * the calls alone.
 */
export function callers(tree: Tree, of?: Uint8Array): Tree {
  const starts = of === undefined ? leaves(tree) : places(tree, of);
  starts.sort((one, other) => other.weight - one.weight);
  const single = of && onlyOne(of);
  const root = new Node(single ?? tree.name[0]!);
  let left = MOST;
  for (const { row, weight } of starts) {
    let at = root;
    let above = single === undefined ? row : tree.parent[row]!;
    for (; above > 0; above = tree.parent[above]!) {
      const known = at.get(tree.name[above]!);
      if (!known && left === 0) break;
      if (!known) left--;
      at = known ?? at.below(tree.name[above]!);
    }
    if (above > 0) at.pruned += weight;
    else at.self += weight;
  }
  // What was left out was used by functions that are not known.
  if (of === undefined) root.pruned += tree.pruned.reduce((sum, value) => sum + value, 0);
  return reached(tree, root);
}

/** What functions call, over all places of theirs; a single one is the root. */
export function callees(tree: Tree, of: Uint8Array): Tree {
  const root = new Node(tree.name[0]!);
  for (const { row } of places(tree, of)) merged(tree, row, root);
  const single = onlyOne(of);
  return reached(tree, (single === undefined ? undefined : root.get(single)) ?? root);
}

/** Functions by their numbers, as `callers` takes them. */
export function named(tree: Tree, ...names: readonly number[]): Uint8Array {
  const of = new Uint8Array(tree.names.length);
  for (const name of names) of[name] = 1;
  return of;
}

function onlyOne(of: Uint8Array): number | undefined {
  const first = of.indexOf(1);
  return first >= 0 && of.indexOf(1, first + 1) < 0 ? first : undefined;
}

function leaves(tree: Tree): Start[] {
  const starts: Start[] = [];
  for (let row = 0; row < tree.size; row++) {
    if (tree.self[row] !== 0) starts.push({ row, weight: tree.self[row]! });
  }
  return starts;
}

/** The outermost places of functions: what a function uses that calls itself counts once. */
function places(tree: Tree, of: Uint8Array): Start[] {
  // The root is all of the profile, unless it is the root of a part.
  const rows = outermost(tree, of, tree.source.above.length === 0 ? 1 : 0);
  return rows.map((row) => ({ row, weight: tree.total[row]! }));
}
