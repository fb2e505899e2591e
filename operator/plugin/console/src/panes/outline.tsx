// The call tree as lines that open and close: the graph for the keyboard and for screen readers.
import { signal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import type { Tree } from '../flame/columns.ts';
import { clean, percent, value } from '../flame/format.ts';
import { atFirst, hasCallees, lines, type Open, press, showing, toggled } from '../flame/outline.ts';
import type { Found } from '../flame/search.ts';

interface Props {
  tree: Tree;
  found: Found | undefined;
  selected: number;
  /** The selected row of now, also between two renderings. */
  current: () => number;
  select: (row: number) => void;
  search: () => void;
  match: (step: 1 | -1) => void;
}

export function Outline(props: Props) {
  const { tree, selected, select } = props;
  const open = useMemo(() => signal<Open>(atFirst(tree)), [tree]);
  const list = useRef<HTMLDivElement>(null);
  // What is selected elsewhere, as by a search, is shown here.
  const shown = showing(tree, open.value, selected);
  const { rows, more } = lines(tree, shown);
  useEffect(() => {
    open.value = showing(tree, open.value, selected);
    list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  }, [tree, selected]);
  const key = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    // Keys may come faster than the page is rendered.
    const at = props.current();
    const moved = press(tree, showing(tree, open.value, at), at, key);
    if (moved) {
      open.value = moved.open;
      select(moved.row);
    } else if (key === '/') props.search();
    else if (key === 'n' || key === 'N') props.match(key === 'n' ? 1 : -1);
    else return;
    event.preventDefault();
  };
  const toggle = (row: number) => {
    select(row);
    if (hasCallees(tree, row)) open.value = toggled(shown, row);
  };
  return (
    <>
      <div class="line titles" aria-hidden="true">
        <span>Total</span>
        <span>Self</span>
        <span>Function</span>
      </div>
      <div
        ref={list}
        class="outline"
        role="tree"
        tabIndex={0}
        aria-label="Call tree: arrow keys open, close and select"
        aria-activedescendant={`line-${selected}`}
        onKeyDown={key}
      >
        {rows.map((row) => (
          <Line key={row} {...props} row={row} isOpen={shown.has(row)} toggle={toggle} />
        ))}
      </div>
      {more && <p class="plain">Only the first {rows.length} lines are shown: close some, or filter.</p>}
    </>
  );
}

interface LineProps extends Props {
  row: number;
  isOpen: boolean;
  toggle: (row: number) => void;
}

function Line({ tree, found, selected, row, isOpen, toggle }: LineProps) {
  const whole = tree.source.total || 1;
  const name = tree.name[row]!;
  const [total, self] = [tree.total[row]!, tree.self[row]!];
  const opens = hasCallees(tree, row);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the keys are those of the tree around it.
    // biome-ignore lint/a11y/useFocusableInteractive: the tree has the focus, and names its active line.
    <div
      id={`line-${row}`}
      class={`line ${found?.names[name] ? 'found' : ''}`}
      role="treeitem"
      aria-level={tree.depth[row]! + 1}
      aria-expanded={opens ? isOpen : undefined}
      aria-selected={row === selected}
      onClick={() => toggle(row)}
    >
      <span title={value(total, tree.unit)}>{percent(total / whole)}</span>
      <span title={value(self, tree.unit)}>{percent(self / whole)}</span>
      <span style={{ paddingLeft: `${Math.min(tree.depth[row]!, 40) * 14}px` }}>
        <span aria-hidden="true">{opens ? (isOpen ? '▾ ' : '▸ ') : '\u2003'}</span>
        {clean(tree.names[name]!)} <small class="message">{clean(tree.files[name] ?? '')}</small>
      </span>
    </div>
  );
}
