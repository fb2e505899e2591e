// How much of a profile says what ran? By the names that agents give to what they could not see. Pure.
import { outermost, type Tree } from './columns.ts';
import { percent } from './format.ts';

/** Time that is known, and not used by a function. */
const STATES = /^\[(idle|no PHP code|threads without |JVM: )/;
const NO_STACK = /^\[(no stack|no Java stack)\]$/;
const CUT = /^\[(truncated|callers beyond the sampled stack)\]$/;
const NOT_SAMPLED = /^\[not sampled\]$/;

const UNNAMED = 'The rest ran in code without symbols.';

/** A figure beside the graph: its title, the share as text, and what it means. */
export interface Figure {
  title: string;
  text: string;
  about: string;
}

/** The figures of a tree; those that are nothing are left out, but for the first one, which is what the status of the
 * session says of names, in %, and where it says nothing, what the tree does. */
export function figures(tree: Tree, named?: number): Figure[] {
  const whole = Math.abs(tree.source.total) || 1;
  const share = (pattern: RegExp) => {
    const of = Uint8Array.from(tree.names, (name) => (pattern.test(name) ? 1 : 0));
    return outermost(tree, of).reduce((sum, row) => sum + Math.abs(tree.total[row]!), 0) / whole;
  };
  const rest = [
    { title: 'Without a stack', share: share(NO_STACK), about: 'It is not known which functions ran.' },
    { title: 'Cut stacks', share: share(CUT), about: 'Their outermost callers are not known.' },
    { title: 'Not sampled', share: share(NOT_SAMPLED), about: 'The time was used, but no sample was taken.' },
    { title: 'Left out', share: Math.abs(tree.source.prunedValue) / whole, about: 'Load it to see it.' },
  ];
  const first =
    named === undefined
      ? { title: 'Named functions', text: percent(1 - unnamed(tree) / whole), about: UNNAMED }
      : { title: 'Named frames', text: `${named} %`, about: `Of all frames of the samples. ${UNNAMED}` };
  const shown = rest.filter((figure) => figure.share > 0);
  return [first, ...shown.map(({ title, share, about }) => ({ title, text: percent(share), about }))];
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
