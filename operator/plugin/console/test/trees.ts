// Call trees for the tests.
import { type Columns, decode, type Tree } from '../src/flame/columns.ts';

/** One line a node: dots for the depth, the name, what it used itself, and `pruned N`. */
export function columns(lines: readonly string[], more: Partial<Columns> = {}): Columns {
  const names: string[] = [];
  const rows = lines.map((line) => {
    const [, dots, name, self, pruned] = /^(\.*)(\S+) (\d+)(?: pruned (\d+))?$/.exec(line)!;
    if (!names.includes(name!)) names.push(name!);
    return {
      depth: dots!.length,
      name: names.indexOf(name!),
      self: Number(self),
      pruned: Number(pruned ?? 0),
    };
  });
  const sum = (of: (row: (typeof rows)[number]) => number) => rows.reduce((total, row) => total + of(row), 0);
  return {
    sampleType: 'cpu',
    unit: 'nanoseconds',
    total: sum((row) => row.self + row.pruned),
    samples: 100,
    podSeconds: 10,
    prunedValue: sum((row) => row.pruned),
    above: [],
    nodes: rows.length,
    prunedNodes: 0,
    names,
    files: names.map(() => ''),
    depth: rows.map((row) => row.depth),
    name: rows.map((row) => row.name),
    self: rows.map((row) => row.self),
    pruned: rows.map((row) => row.pruned),
    ...more,
  };
}

export const tree = (lines: readonly string[], more: Partial<Columns> = {}): Tree =>
  decode(columns(lines, more));

/** main ─ c 60, b 30 (of which d 10), and 10 in main itself. */
export const SMALL = ['total 0', '.main 10', '..c 60', '..b 20', '...d 10'];

/** A tree of `size` nodes that is the same every time: wide and up to 120 deep, like one of a busy service. */
export function large(size: number): Columns {
  let seed = 42;
  const random = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
  const names = Array.from({ length: 6000 }, (_, at) =>
    at === 0
      ? 'total'
      : `shop.${['orders', 'cards', 'stock', 'http', 'json'][at % 5]}.Type${at % 97}.method${at}`,
  );
  const depth: number[] = [];
  const name: number[] = [];
  const self: number[] = [];
  // A node, and below it `nodes - 1` more, the heaviest child first.
  const grow = (level: number, nodes: number) => {
    depth.push(level);
    name.push(level === 0 ? 0 : 1 + Math.floor(random() * 5999));
    self.push(Math.floor(random() * 1e6) + 1);
    let left = nodes - 1;
    while (left > 0) {
      const part =
        level > 118 ? 1 : Math.max(1, Math.floor(left * (level < 4 ? 0.45 : 0.6 + 0.4 * random())));
      grow(level + 1, part);
      left -= part;
    }
  };
  grow(0, size);
  const value = self.reduce((sum, own) => sum + own, 0);
  const files = names.map((_, at) => `src/${at % 300}.ts`);
  return {
    ...columns(['total 0']),
    names,
    files,
    depth,
    name,
    self,
    pruned: self.map(() => 0),
    total: value,
    nodes: size,
  };
}
