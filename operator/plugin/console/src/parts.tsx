// What do panes consist of? Tables, copyable commands, buttons with their reason, states of a list.
import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useState } from 'preact/hooks';
import type { Live } from './api/follow.ts';
import { mayAll, type Right, type Verdict } from './api/rights.ts';
import { type Column, clicked, filtered, ordered, type Sorting } from './rows.ts';
import { api, clusterPolicies, policies, start, toast } from './state.ts';

/** How many rows a table shows at first, and more with each click. */
const PAGE = 100;

interface TableProps<T> {
  caption: string;
  rows: readonly T[];
  columns: readonly (Column<T> & { cell?: (row: T) => ComponentChildren })[];
  sorting: Sorting;
  id: (row: T) => string;
  empty: ComponentChildren;
  filter?: string;
}

/** A table that is sorted by a click on a title. */
export function Table<T>(props: TableProps<T>) {
  const sorting = useSignal(props.sorting);
  const most = useSignal(PAGE);
  const found = filtered(props.rows, props.columns, props.filter ?? '');
  const rows = ordered(found, props.columns, sorting.value).slice(0, most.value);
  if (props.rows.length === 0) return <p class="nothing">{props.empty}</p>;
  if (found.length === 0) return <p class="nothing">Nothing matches the filter.</p>;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard.
    <section class="scroll" aria-label={props.caption} tabIndex={0}>
      <table>
        <caption class="hidden">{props.caption}</caption>
        <Titles columns={props.columns} sorting={sorting} />
        <tbody>
          {rows.map((row) => (
            <Row key={props.id(row)} row={row} columns={props.columns} />
          ))}
        </tbody>
      </table>
      {found.length > rows.length && (
        <button
          type="button"
          onClick={() => {
            most.value += PAGE;
          }}
        >
          Show more ({found.length - rows.length} left)
        </button>
      )}
    </section>
  );
}

function Titles<T>(props: { columns: readonly Column<T>[]; sorting: { value: Sorting } }) {
  const { columns, sorting } = props;
  const sort = (id: string) => {
    sorting.value = clicked(columns, sorting.value, id);
  };
  return (
    <thead>
      <tr>
        {columns.map((column) => (
          <Title key={column.id} column={column} sorting={sorting.value} sort={() => sort(column.id)} />
        ))}
      </tr>
    </thead>
  );
}

function Row<T>({ row, columns }: { row: T; columns: TableProps<T>['columns'] }) {
  return (
    <tr>
      {columns.map((column) => (
        <td key={column.id} class={column.number ? 'number' : ''}>
          {column.cell ? column.cell(row) : column.key(row)}
        </td>
      ))}
    </tr>
  );
}

function Title<T>(props: { column: Column<T>; sorting: Sorting; sort: () => void }) {
  const { column, sorting } = props;
  const order = sorting.id !== column.id ? 'none' : sorting.descending ? 'descending' : 'ascending';
  const arrow = order === 'none' ? '' : order === 'descending' ? ' ▾' : ' ▴';
  return (
    <th scope="col" aria-sort={order} class={column.number ? 'number' : ''}>
      <button type="button" class="title" onClick={props.sort}>
        {column.title}
        <span aria-hidden="true">{arrow}</span>
      </button>
    </th>
  );
}

/** What is said of a list beside its rows: loading, reconnecting, failed. */
export function State(props: { live: Live<unknown>; what: string }) {
  const { state, problem } = props.live;
  if (state === 'loading') return <p role="status">Loading {props.what}…</p>;
  if (state === 'reconnecting')
    return (
      <p role="status" class="warn">
        Reconnecting; {props.what} may be out of date. {problem}
      </p>
    );
  if (state === 'failed')
    return (
      <p role="alert" class="bad">
        Could not read {props.what}: {problem}
      </p>
    );
  return null;
}

/** What is said of policies: of those of namespaces, and of those of the cluster where they may not be listed. */
export function PoliciesState() {
  return (
    <>
      <State live={policies.value} what="policies" />
      {clusterPolicies.value.state === 'failed' && (
        <p class="warn">Cluster policies are left out: {clusterPolicies.value.problem}</p>
      )}
    </>
  );
}

/** The box with the words that rows of a table must have. */
export function Filter({ filter, hint = '' }: { filter: { value: string }; hint?: string }) {
  return (
    <label class="filter">
      Filter{' '}
      <input
        type="search"
        value={filter.value}
        placeholder={hint}
        onInput={(event) => {
          filter.value = event.currentTarget.value;
        }}
      />
    </label>
  );
}

/** A button; when it cannot be pressed, the reason is beside it. */
export function Button(props: {
  children: ComponentChildren;
  /** What it does; nothing if it sends the form that it is in. */
  onClick?: () => void;
  reason?: string | undefined;
  rights?: readonly Right[];
  primary?: boolean;
  busy?: boolean;
  label?: string;
}) {
  const verdict = useRights(props.rights);
  const id = useId();
  const reason = props.reason ?? verdict.reason;
  const off = props.busy === true || props.reason !== undefined || !verdict.allowed;
  return (
    <span class="action">
      <button
        type={props.onClick ? 'button' : 'submit'}
        class={props.primary ? 'primary' : ''}
        aria-disabled={off}
        aria-label={props.label}
        aria-describedby={reason ? id : undefined}
        onClick={(event) => (off ? event.preventDefault() : props.onClick?.())}
      >
        {props.children}
      </button>
      {reason && (
        <small id={id} class="reason">
          {reason}
        </small>
      )}
    </span>
  );
}

/** Whether the caller has these rights. */
export function useRights(rights: readonly Right[] | undefined): Verdict {
  const [verdict, setVerdict] = useState<Verdict>({ allowed: true, reason: '' });
  const key = JSON.stringify(rights ?? []);
  useEffect(() => {
    let current = true;
    const client = api.value;
    const wanted = JSON.parse(key) as Right[];
    if (client && wanted.length > 0)
      mayAll(client, wanted, start.value?.flags ?? []).then((found) => current && setVerdict(found));
    return () => {
      current = false;
    };
  }, [key]);
  return rights && rights.length > 0 ? verdict : { allowed: true, reason: '' };
}

/** How long a form must be left alone before it is tried. */
const SETTLED_MS = 400;

/** Tries a form, whose content `key` is, once it has been left alone. `ask` gives what to do with the answer, which is
 * not done if the form has changed by then; `forget` takes back what an earlier one did. */
export function useSettled(
  key: string,
  skip: boolean,
  forget: () => void,
  ask: () => Promise<() => void>,
): void {
  useEffect(() => {
    forget();
    if (skip) return;
    let current = true;
    const timer = setTimeout(() => void ask().then((tell) => current && tell()), SETTLED_MS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [key, skip]);
}

/** A command line to take elsewhere. */
export function Command(props: { line: string }) {
  return (
    <p class="command">
      <code>{props.line}</code>
      <Copy text={props.line} what={props.line} />
    </p>
  );
}

/** Copies a text, and says whether the browser let it. */
export function copy(text: string): void {
  navigator.clipboard.writeText(text).then(
    () => toast('Copied.', 'plain'),
    () => toast('The browser did not allow copying: select the text instead.', 'bad'),
  );
}

/** A button that copies a text; `what` is it for those who do not see what is beside it. */
export function Copy(props: { text: string; what: string }) {
  return (
    <button type="button" onClick={() => copy(props.text)} aria-label={`Copy: ${props.what}`}>
      Copy
    </button>
  );
}

/** A label over its field. */
export function Field(props: { label: string; children: ComponentChildren; hint?: string }) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is among the children.
    <label class="field">
      <span>{props.label}</span>
      {props.children}
      {props.hint && <small>{props.hint}</small>}
    </label>
  );
}
