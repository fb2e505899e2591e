// How does a call tree become another one? Nodes that are merged by name, and columns made of them.
import { relations, type Tree } from './columns.ts';

/** A node under construction. */
export class Node {
  readonly name: number;
  self = 0;
  pruned = 0;
  total = 0;
  /** The first child; most nodes have no other. */
  private first: Node | undefined;
  private others: Map<number, Node> | undefined;

  constructor(name: number) {
    this.name = name;
  }

  /** The child of this name, if there is one. */
  get(name: number): Node | undefined {
    return this.first?.name === name ? this.first : this.others?.get(name);
  }

  /** The child of this name, made if it is new. */
  below(name: number): Node {
    const known = this.get(name);
    if (known) return known;
    const made = new Node(name);
    if (this.first) {
      this.others ??= new Map();
      this.others.set(name, made);
    } else this.first = made;
    return made;
  }

  /** Adds the children to a list, the lightest first. */
  into(list: Node[]): void {
    if (!this.first) return;
    if (!this.others) {
      list.push(this.first);
      return;
    }
    const all = [this.first, ...this.others.values()];
    all.sort((one, other) => Math.abs(one.total) - Math.abs(other.total) || other.name - one.name);
    for (const child of all) list.push(child);
  }

  /** All nodes from this one on, callers before their callees. */
  everything(): Node[] {
    const found: Node[] = [this];
    for (let next = 0; next < found.length; next++) {
      const { first, others } = found[next]!;
      if (first) found.push(first);
      if (others) for (const child of others.values()) found.push(child);
    }
    return found;
  }

  /** Adds up the total, of children that have theirs. */
  sum(): void {
    this.total = this.self + this.pruned + (this.first?.total ?? 0);
    if (this.others) for (const child of this.others.values()) this.total += child.total;
  }
}

/** Adds a row of a tree, with all below it, to the children of a node. */
export function merged(tree: Tree, row: number, into: Node): void {
  const way: Node[] = [into];
  const top = tree.depth[row]!;
  for (let at = row; at < tree.end[row]!; at++) {
    const level = tree.depth[at]! - top;
    way.length = level + 1;
    const here = way[level]!.below(tree.name[at]!);
    here.self += tree.self[at]!;
    here.pruned += tree.pruned[at]!;
    way.push(here);
  }
}

/** Nodes as a tree in preorder, the heaviest child first; of the same profile as `tree`, but not a comparison. */
export function reached(tree: Tree, root: Node): Tree {
  const all = root.everything();
  for (let last = all.length - 1; last >= 0; last--) all[last]!.sum();
  const rows: Node[] = [];
  const depths: number[] = [];
  const todo: Node[] = [root];
  const levels: number[] = [0];
  for (let at = todo.pop(); at; at = todo.pop()) {
    const depth = levels.pop()!;
    rows.push(at);
    depths.push(depth);
    // The last one is taken first.
    at.into(todo);
    while (levels.length < todo.length) levels.push(depth + 1);
  }
  const depth = Uint32Array.from(depths);
  const { base: _, ...rest } = tree;
  return {
    ...rest,
    size: rows.length,
    depth,
    name: Uint32Array.from(rows, ({ name }) => name),
    self: Float64Array.from(rows, ({ self }) => self),
    pruned: Float64Array.from(rows, ({ pruned }) => pruned),
    total: Float64Array.from(rows, ({ total }) => total),
    ...relations(depth),
  };
}

/** The same tree with other values, without the nodes that hold nothing any more. */
export function compact(tree: Tree, self: Float64Array, pruned: Float64Array): Tree {
  const holds = new Uint8Array(tree.size);
  holds[0] = 1;
  for (let row = tree.size - 1; row > 0; row--) {
    if (self[row] !== 0 || pruned[row] !== 0) holds[row] = 1;
    if (holds[row] === 1) holds[tree.parent[row]!] = 1;
  }
  const root = new Node(tree.name[0]!);
  const places: (Node | undefined)[] = [root];
  for (let row = 0; row < tree.size; row++) {
    const here =
      row === 0 ? root : holds[row] ? places[tree.parent[row]!]!.below(tree.name[row]!) : undefined;
    places[row] = here;
    if (!here) continue;
    here.self += self[row]!;
    here.pruned += pruned[row]!;
  }
  return reached(tree, root);
}
