// How much of a profile says what ran? By the names that agents give to what they could not see. Pure.
import type { Tree } from './columns.ts';

/** Time that is known, and not used by a function. */
const STATES = /^\[(idle|no PHP code|threads without |JVM: )/;
const NO_STACK = /^\[(no stack|no Java stack)\]$/;
const CUT = /^\[(truncated|callers beyond the sampled stack)\]$/;
const NOT_SAMPLED = /^\[not sampled\]$/;

/** A figure beside the graph: its title, its share of the whole, and what it means. */
export interface Figure {
  title: string;
  share: number;
  about: string;
}

/** The figures of a tree; those that are nothing are left out, but for the first one. */
export function figures(tree: Tree): Figure[] {
  const whole = Math.abs(tree.source.total) || 1;
  const share = (pattern: RegExp) => outermost(tree, pattern) / whole;
  const rest: Figure[] = [
    { title: 'Without a stack', share: share(NO_STACK), about: 'It is not known which functions ran.' },
    { title: 'Cut stacks', share: share(CUT), about: 'Their outermost callers are not known.' },
    { title: 'Not sampled', share: share(NOT_SAMPLED), about: 'The time was used, but no sample was taken.' },
    { title: 'Left out', share: Math.abs(tree.source.prunedValue) / whole, about: 'Load it to see it.' },
  ];
  const named: Figure = {
    title: 'Named functions',
    share: 1 - unnamed(tree) / whole,
    about: 'The rest ran in code without symbols.',
  };
  return [named, ...rest.filter((figure) => figure.share > 0)];
}

/** What functions without a name used themselves: of those the library, or nothing, is known. */
function unnamed(tree: Tree): number {
  const other = [STATES, NO_STACK, CUT, NOT_SAMPLED];
  const none = Uint8Array.from(tree.names, (name) => {
    const bare = /^\[.*\]$/.test(name) && !other.some((pattern) => pattern.test(name));
    return bare || /^0x[0-9a-f]+$/i.test(name) ? 1 : 0;
  });
  return tree.self.reduce((sum, value, row) => sum + (none[tree.name[row]!] ? Math.abs(value) : 0), 0);
}

function outermost(tree: Tree, pattern: RegExp): number {
  const found = Uint8Array.from(tree.names, (name) => (pattern.test(name) ? 1 : 0));
  let sum = 0;
  for (let row = 0; row < tree.size; ) {
    const here = found[tree.name[row]!] === 1;
    if (here) sum += Math.abs(tree.total[row]!);
    row = here ? tree.end[row]! : row + 1;
  }
  return sum;
}
