// What does a call tree look like in memory? The columns of `/flamegraph`, checked, with totals added up.
//
// A row is a node; parents come before their children, the heaviest child first.

/** The values of one profile, node by node, as `/flamegraph` answers. */
export interface Side {
  total: number;
  samples: number | null;
  podSeconds: number | null;
  prunedValue: number;
  self: number[];
  pruned: number[];
}

/** What `/flamegraph` and `/diff?format=flamegraph` answer. */
export interface Columns extends Side {
  sampleType: string;
  unit: string;
  base?: Side;
  basis?: 'perPodSecond' | 'share' | 'absolute';
  above: string[];
  nodes: number;
  prunedNodes: number;
  names: string[];
  files: string[];
  depth: number[];
  name: number[];
  noise?: (boolean | null)[];
}

/** A call tree. Every array has one entry a node. */
export interface Tree {
  size: number;
  sampleType: string;
  unit: string;
  names: string[];
  files: string[];
  depth: Uint32Array;
  name: Uint32Array;
  parent: Int32Array;
  /** The row behind the last one below this node. */
  end: Uint32Array;
  self: Float64Array;
  pruned: Float64Array;
  total: Float64Array;
  deepest: number;
  base?: BaseSide;
  source: Pick<
    Columns,
    'total' | 'samples' | 'podSeconds' | 'nodes' | 'prunedNodes' | 'prunedValue' | 'above'
  >;
}

/** What a tree is compared with. */
export interface BaseSide {
  self: Float64Array;
  pruned: Float64Array;
  total: Float64Array;
  basis: NonNullable<Columns['basis']>;
  noise: Uint8Array;
  source: Pick<Side, 'total' | 'samples' | 'podSeconds'>;
}

/** An answer that is not a call tree. */
export class NotATree extends Error {}

/** Checks an answer and adds up its totals. Throws [`NotATree`] with what is wrong. */
export function decode(answer: unknown): Tree {
  const columns = answer as Columns;
  const size = Array.isArray(columns?.depth) ? columns.depth.length : 0;
  if (size === 0) throw new NotATree('The answer has no column "depth": it is not a call tree.');
  checkLengths(columns, size);
  const depth = Uint32Array.from(columns.depth);
  const name = Uint32Array.from(columns.name);
  checkRows(depth, name, columns.names.length);
  const { parent, end, deepest } = relations(depth);
  const tree: Tree = {
    size,
    sampleType: String(columns.sampleType),
    unit: String(columns.unit),
    names: columns.names.map(String),
    files: columns.files.map(String),
    depth,
    name,
    parent,
    end,
    ...values(columns, parent),
    deepest,
    source: columns,
  };
  if (columns.base) tree.base = baseSide(columns, columns.base, parent);
  return tree;
}

function baseSide(columns: Columns, base: Side, parent: Int32Array): BaseSide {
  return {
    ...values(base, parent),
    basis: columns.basis ?? 'share',
    noise: Uint8Array.from(parent, (_, row) => (columns.noise?.[row] ? 1 : 0)),
    source: base,
  };
}

function checkLengths(columns: Columns, size: number): void {
  const lengths: [string, unknown, number][] = [
    ['name', columns.name, size],
    ['self', columns.self, size],
    ['pruned', columns.pruned, size],
    ['files', columns.files, columns.names?.length ?? -1],
  ];
  if (columns.base)
    lengths.push(['base.self', columns.base.self, size], ['base.pruned', columns.base.pruned, size]);
  for (const [column, found, wanted] of lengths) {
    if (!Array.isArray(found) || found.length !== wanted)
      throw new NotATree(`The call tree is damaged: its column "${column}" does not have ${wanted} entries.`);
  }
}

function checkRows(depth: Uint32Array, name: Uint32Array, names: number): void {
  for (let row = 0; row < depth.length; row++) {
    const wrong = row === 0 ? depth[0] !== 0 : depth[row] === 0 || depth[row]! > depth[row - 1]! + 1;
    if (wrong) throw new NotATree(`The call tree is damaged: row ${row} has no parent.`);
    if (name[row]! >= names) throw new NotATree(`The call tree is damaged: row ${row} has no name.`);
  }
}

/** Parents and ends of rows, from their depths. */
export function relations(depth: Uint32Array): Pick<Tree, 'parent' | 'end' | 'deepest'> {
  const parent = new Int32Array(depth.length).fill(-1);
  const end = new Uint32Array(depth.length).fill(depth.length);
  const way: number[] = [];
  let deepest = 0;
  for (let row = 0; row < depth.length; row++) {
    const level = depth[row]!;
    while (way.length > level) end[way.pop()!] = row;
    if (level > 0) parent[row] = way[level - 1]!;
    way.push(row);
    if (level > deepest) deepest = level;
  }
  return { parent, end, deepest };
}

function values(side: Side, parent: Int32Array): Pick<Tree, 'self' | 'pruned' | 'total'> {
  const self = Float64Array.from(side.self);
  const pruned = Float64Array.from(side.pruned);
  const total = self.map((value, row) => value + pruned[row]!);
  for (let row = parent.length - 1; row > 0; row--) total[parent[row]!]! += total[row]!;
  return { self, pruned, total };
}

/** The way from the root to a row, both included. */
export function wayTo(tree: Tree, row: number): number[] {
  const way: number[] = [];
  for (let at = row; at >= 0; at = tree.parent[at]!) way.push(at);
  return way.reverse();
}

/** The path of a row as `?root=` takes it: for each level, which child. */
export function pathTo(tree: Tree, row: number): string {
  const path: number[] = [];
  for (let at = row; at > 0; at = tree.parent[at]!) {
    let rank = 0;
    for (let child = tree.parent[at]! + 1; child < at; child = tree.end[child]!) rank++;
    path.push(rank);
  }
  return path.reverse().join('.');
}

/** The row that a path leads to, as far as it leads. */
export function rowAt(tree: Tree, path: string): number {
  let at = 0;
  for (const part of path === '' ? [] : path.split('.')) {
    let child = at + 1;
    for (let rank = Number(part); rank > 0 && child < tree.end[at]!; rank--) child = tree.end[child]!;
    if (!(child < tree.end[at]!)) break;
    at = child;
  }
  return at;
}

/** The rows of functions, by name, that lie below no other of them, from a row on. */
export function outermost(tree: Tree, of: Uint8Array, from = 0): number[] {
  const rows: number[] = [];
  for (let row = from; row < tree.size; ) {
    const here = of[tree.name[row]!] === 1;
    if (here) rows.push(row);
    row = here ? tree.end[row]! : row + 1;
  }
  return rows;
}
