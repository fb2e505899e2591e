// What is said of a function under the pointer or the keyboard? One text for the eye and for screen readers.
import type { Tree } from './columns.ts';
import type { Run } from './cull.ts';
import { clean, count, percent, value } from './format.ts';
import { onBasis } from './layout.ts';
import type { FunctionRow } from './table.ts';

/** The lines about a row; the first one is its name. `sums` are those of its function over all places. */
export function describe(tree: Tree, row: number, sums: FunctionRow | undefined): string[] {
  const name = tree.name[row]!;
  const file = clean(tree.files[name] ?? '');
  const lines = [clean(tree.names[name]!)];
  if (file) lines.push(file);
  if (tree.base)
    lines.push(change(tree, tree.total[row]!, tree.base.total[row]!, tree.base.noise[row] === 1));
  else lines.push(`${shown(tree, tree.total[row]!)} here, itself ${shown(tree, tree.self[row]!)}`);
  const pruned = tree.pruned[row]!;
  if (pruned !== 0) lines.push(`${shown(tree, pruned)} below it was left out: zoom in to load it`);
  if (sums && !tree.base && sums.total !== tree.total[row]!)
    lines.push(`${shown(tree, sums.total)} in all places, itself ${shown(tree, sums.self)}`);
  return lines;
}

/** The lines about a run. */
export function describeRun(tree: Tree, run: Run): string[] {
  if (run.hides === 0) {
    const gone = tree.pruned[run.row]!;
    return [
      `Left out below ${clean(tree.names[tree.name[run.row]!]!)}`,
      shown(tree, gone),
      'Double-click loads it',
    ];
  }
  return [`${count(run.hides)} narrow function${run.hides === 1 ? '' : 's'}`, 'Zoom in to see them'];
}

/** A value with its share of the whole profile. */
export function shown(tree: Tree, amount: number): string {
  return `${value(amount, tree.unit)} (${percent(amount / (tree.source.total || 1))})`;
}

/** How a value changed, on the basis of the comparison. */
export function change(tree: Tree, after: number, base: number, noise: boolean): string {
  const scale = onBasis(tree);
  const difference = after * scale.after - base * scale.base;
  const sign = difference > 0 ? '+' : '';
  const chance = noise ? ', may be chance' : '';
  const of = (amount: number) => basis(tree, amount);
  return `${of(base * scale.base)} before, ${of(after * scale.after)} now: ${sign}${of(difference)}${chance}`;
}

/** A value on the basis of a comparison. */
export function basis(tree: Tree, amount: number): string {
  if (tree.base?.basis === 'share') return `${amount.toFixed(2)} %`;
  const per = tree.base?.basis === 'perPodSecond' ? ' per pod and second' : '';
  return value(amount, tree.unit) + per;
}
