// Which functions use how much? Self and total of each function, over all its places in the call tree.
import type { Tree } from './columns.ts';

/** One function. */
export interface FunctionRow {
  /** Its number in `names`. */
  name: number;
  self: number;
  total: number;
  /** The same of what the profile is compared with. */
  baseSelf: number;
  baseTotal: number;
}

export type SortKey = 'name' | 'self' | 'total' | 'changeSelf' | 'changeTotal';

/** All functions of the tree in the order of their numbers; the root is none. A function that calls itself counts once. */
export function functions(tree: Tree): FunctionRow[] {
  const rows = tree.names.map((_, name) => ({ name, self: 0, total: 0, baseSelf: 0, baseTotal: 0 }));
  const active = new Uint32Array(tree.names.length);
  const present = new Uint8Array(tree.names.length);
  const way: number[] = [];
  for (let row = 0; row < tree.size; row++) {
    const name = tree.name[row]!;
    while (way.length > tree.depth[row]!) active[way.pop()!]!--;
    const entry = rows[name]!;
    present[name] = 1;
    entry.self += tree.self[row]!;
    entry.baseSelf += tree.base?.self[row] ?? 0;
    if (active[name]!++ === 0) {
      entry.total += tree.total[row]!;
      entry.baseTotal += tree.base?.total[row] ?? 0;
    }
    way.push(name);
  }
  const root = tree.source.above.length === 0 ? tree.name[0] : -1;
  return rows.filter((entry) => entry.name !== root && present[entry.name]);
}

/** Sorts functions; equal ones by name. `scale` makes the two sides of a comparison comparable. */
export function sorted(
  tree: Tree,
  rows: readonly FunctionRow[],
  key: SortKey,
  descending: boolean,
  scale: { after: number; base: number },
): FunctionRow[] {
  const of: Record<SortKey, (row: FunctionRow) => number> = {
    name: () => 0,
    self: (row) => row.self,
    total: (row) => row.total,
    changeSelf: (row) => row.self * scale.after - row.baseSelf * scale.base,
    changeTotal: (row) => row.total * scale.after - row.baseTotal * scale.base,
  };
  const sign = descending ? -1 : 1;
  const names = (one: FunctionRow, other: FunctionRow) => {
    const [a, b] = [tree.names[one.name]!, tree.names[other.name]!];
    return a < b ? -1 : a > b ? 1 : 0;
  };
  const nameSign = key === 'name' ? sign : 1;
  return [...rows].sort(
    (one, other) => sign * (of[key](one) - of[key](other)) || nameSign * names(one, other),
  );
}
