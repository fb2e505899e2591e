// The table of functions: all that the flame graph shows, for the keyboard and for screen readers.
import type { Tree } from '../flame/columns.ts';
import { basis } from '../flame/describe.ts';
import { clean, percent, value } from '../flame/format.ts';
import { onBasis } from '../flame/layout.ts';
import type { Found } from '../flame/search.ts';
import type { FunctionRow } from '../flame/table.ts';
import { Table } from '../parts.tsx';
import type { Column } from '../rows.ts';
import { setParams } from '../state.ts';

type Cells = Column<FunctionRow> & { cell?: (row: FunctionRow) => preact.ComponentChildren };

/** The columns of a tree, or of a comparison. */
function columns(tree: Tree): Cells[] {
  const total = tree.source.total || 1;
  const name: Cells = {
    id: 'name',
    title: 'Function',
    key: (row) => clean(tree.names[row.name]!),
    cell: (row) => <Name tree={tree} row={row} />,
  };
  const amount = (id: string, title: string, of: (row: FunctionRow) => number): Cells => ({
    id,
    title,
    number: true,
    high: true,
    key: of,
    cell: (row) => `${value(of(row), tree.unit)} (${percent(of(row) / total)})`,
  });
  const both = [amount('self', 'Self', (row) => row.self), amount('total', 'Total', (row) => row.total)];
  if (!tree.base) return [name, ...both];
  const scale = onBasis(tree);
  const change = (id: string, title: string, of: (row: FunctionRow) => number): Cells => ({
    id,
    title,
    number: true,
    high: true,
    key: of,
    cell: (row) => `${of(row) > 0 ? '+' : ''}${basis(tree, of(row))}`,
  });
  return [
    name,
    change('changeSelf', 'Self, change', (row) => row.self * scale.after - row.baseSelf * scale.base),
    change('changeTotal', 'Total, change', (row) => row.total * scale.after - row.baseTotal * scale.base),
    ...both,
  ];
}

/** A function; a click finds it in the graph. */
function Name({ tree, row }: { tree: Tree; row: FunctionRow }) {
  const name = tree.names[row.name]!;
  const exact = `^${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`;
  return (
    <>
      <button type="button" class="link" onClick={() => setParams({ q: exact, view: '' }, false)}>
        {clean(name)}
      </button>
      <small class="message"> {clean(tree.files[row.name] ?? '')}</small>{' '}
      {!tree.base && (
        <button
          type="button"
          class="link"
          aria-label={`Callers and callees of ${clean(name)}`}
          onClick={() => setParams({ of: name }, false)}
        >
          ⇅
        </button>
      )}
    </>
  );
}

export function Functions({
  tree,
  rows,
  found,
}: {
  tree: Tree;
  rows: FunctionRow[];
  found: Found | undefined;
}) {
  return (
    <Table
      caption="Functions"
      rows={found ? rows.filter((row) => found.names[row.name]) : rows}
      columns={columns(tree)}
      sorting={{ id: tree.base ? 'changeSelf' : 'self', descending: true }}
      id={(row) => String(row.name)}
      empty="No function matches the search."
    />
  );
}
