// Who calls what is expensive? A call tree upside down: functions first, then their callers, merged.
import { relations, type Tree } from './columns.ts';

/** Most nodes: the heaviest ways get them, what is left counts as left out where its way ends. */
const MOST = 200_000;

interface Node {
  name: number;
  self: number;
  pruned: number;
  total: number;
  children: Map<number, Node>;
}

/** Where a way from a function to the outermost caller begins, and what it weighs. */
interface Start {
  row: number;
  weight: number;
}

/**
 * The tree upside down. With a name only of that function, by what it and its callees used; else of all
 * functions, by what each used itself. Not of a comparison, whose noise is known for the calls alone.
 */
export function callers(tree: Tree, name?: number): Tree {
  const starts = name === undefined ? leaves(tree) : places(tree, name);
  starts.sort((one, other) => other.weight - one.weight);
  const root = node(tree.name[0]!);
  let left = MOST;
  for (const { row, weight } of starts) {
    root.total += weight;
    let at = root;
    let above = row;
    for (; above > 0; above = tree.parent[above]!) {
      const known = at.children.get(tree.name[above]!);
      if (!known && left === 0) break;
      at = known ?? child(at, tree.name[above]!);
      if (!known) left--;
      at.total += weight;
    }
    if (above > 0) at.pruned += weight;
    else at.self += weight;
  }
  if (name === undefined) {
    // What was left out was used by functions that are not known.
    root.pruned += tree.pruned.reduce((sum, value) => sum + value, 0);
    root.total += tree.pruned.reduce((sum, value) => sum + value, 0);
  }
  return columns(tree, root);
}

function node(name: number): Node {
  return { name, self: 0, pruned: 0, total: 0, children: new Map() };
}

function child(parent: Node, name: number): Node {
  const made = node(name);
  parent.children.set(name, made);
  return made;
}

function leaves(tree: Tree): Start[] {
  const starts: Start[] = [];
  for (let row = 0; row < tree.size; row++) {
    if (tree.self[row] !== 0) starts.push({ row, weight: tree.self[row]! });
  }
  return starts;
}

/** The outermost places of a function: what a function uses that calls itself counts once. */
function places(tree: Tree, name: number): Start[] {
  const starts: Start[] = [];
  for (let row = 0; row < tree.size; ) {
    const here = tree.name[row] === name;
    if (here) starts.push({ row, weight: tree.total[row]! });
    row = here ? tree.end[row]! : row + 1;
  }
  return starts;
}

/** Nodes as a tree in preorder, the heaviest child first. */
function columns(tree: Tree, root: Node): Tree {
  const rows: Node[] = [];
  const depths: number[] = [];
  const todo = [{ at: root, depth: 0 }];
  for (let next = todo.pop(); next; next = todo.pop()) {
    const { at, depth } = next;
    rows.push(at);
    depths.push(depth);
    // The last one is taken first.
    const below = [...at.children.values()].sort(
      (one, other) => one.total - other.total || other.name - one.name,
    );
    for (const callee of below) todo.push({ at: callee, depth: depth + 1 });
  }
  const depth = Uint32Array.from(depths);
  return {
    ...tree,
    size: rows.length,
    depth,
    name: Uint32Array.from(rows, ({ name }) => name),
    self: Float64Array.from(rows, ({ self }) => self),
    pruned: Float64Array.from(rows, ({ pruned }) => pruned),
    total: Float64Array.from(rows, ({ total }) => total),
    ...relations(depth),
  };
}
