// Which lines does a call tree show that is opened and closed like folders? Pure.
import { type Tree, wayTo } from './columns.ts';

/** Most lines; beyond that something has to be closed. */
const MOST = 500;
/** A way is opened at first as long as one callee has this much of the whole. */
const MAIN = 0.5;

/** The rows that are open. */
export type Open = ReadonlySet<number>;

/** What is open at first: the way along which most was used. */
export function atFirst(tree: Tree): Open {
  const open = new Set<number>();
  // The heaviest callee is the first one.
  for (let row = 0; row === 0 || Math.abs(tree.total[row]!) >= MAIN * Math.abs(tree.total[0]!); row++) {
    if (!hasCallees(tree, row)) break;
    open.add(row);
  }
  return open;
}

export function hasCallees(tree: Tree, row: number): boolean {
  return row + 1 < tree.end[row]!;
}

/** The rows that are shown, from top to bottom; and whether there are more. */
export function lines(tree: Tree, open: Open): { rows: number[]; more: boolean } {
  const rows: number[] = [];
  for (let row = 0; row < tree.size; row = open.has(row) ? row + 1 : tree.end[row]!) {
    if (rows.length === MOST) return { rows, more: true };
    rows.push(row);
  }
  return { rows, more: false };
}

/** What has to be open so that a row is shown. */
export function showing(tree: Tree, open: Open, row: number): Open {
  const above = wayTo(tree, row).slice(0, -1);
  return above.every((one) => open.has(one)) ? open : new Set([...open, ...above]);
}

/** Opens or closes a row. */
export function toggled(open: Open, row: number): Open {
  const next = new Set(open);
  if (!next.delete(row)) next.add(row);
  return next;
}

/** What a key does at a row, as the keys of trees do everywhere; nothing for other keys. */
export function press(
  tree: Tree,
  open: Open,
  row: number,
  key: string,
): { row: number; open: Open } | undefined {
  const shown = lines(tree, open).rows;
  const line = Math.max(shown.indexOf(row), 0);
  const to = (target: number | undefined) => ({ row: target ?? row, open });
  const isOpen = open.has(row) && hasCallees(tree, row);
  const keys: Record<string, () => { row: number; open: Open }> = {
    ArrowDown: () => to(shown[line + 1]),
    ArrowUp: () => to(shown[line - 1]),
    Home: () => to(shown[0]),
    End: () => to(shown.at(-1)),
    ArrowRight: () =>
      isOpen ? to(row + 1) : hasCallees(tree, row) ? { row, open: toggled(open, row) } : to(row),
    ArrowLeft: () => (isOpen ? { row, open: toggled(open, row) } : to(Math.max(tree.parent[row]!, 0))),
    Enter: () => (hasCallees(tree, row) ? { row, open: toggled(open, row) } : to(row)),
    '*': () => ({ row, open: new Set([...open, ...siblings(tree, row)]) }),
  };
  return Object.hasOwn(keys, key) ? keys[key]?.() : undefined;
}

/** A row and all with the same caller. */
function siblings(tree: Tree, row: number): number[] {
  const parent = tree.parent[row]!;
  const found: number[] = parent < 0 ? [row] : [];
  for (let child = parent + 1; parent >= 0 && child < tree.end[parent]!; child = tree.end[child]!)
    found.push(child);
  return found;
}
