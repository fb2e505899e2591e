// Which rows does a table show, in which order? Pure.

export type Key = string | number | undefined;

export interface Column<T> {
  id: string;
  title: string;
  /** What it is sorted and filtered by. */
  key: (row: T) => Key;
  /** Whether the first click sorts from high to low. */
  high?: boolean;
  /** Whether it holds numbers, which are aligned right. */
  number?: boolean;
}

export interface Sorting {
  id: string;
  descending: boolean;
}

/** Rows that contain all words of the filter in any column. */
export function filtered<T>(rows: readonly T[], columns: readonly Column<T>[], filter: string): T[] {
  const words = filter
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  if (words.length === 0) return [...rows];
  return rows.filter((row) => {
    const text = columns.map((column) => String(column.key(row) ?? '').toLowerCase()).join('\u0000');
    return words.every((word) => text.includes(word));
  });
}

/** Rows by a column; those without a value come last, whatever the order. */
export function ordered<T>(rows: readonly T[], columns: readonly Column<T>[], sorting: Sorting): T[] {
  const column = columns.find(({ id }) => id === sorting.id);
  if (!column) return [...rows];
  const sign = sorting.descending ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [column.key(one), column.key(other)];
    if (a === undefined || b === undefined || a === '' || b === '') return missing(a) - missing(b);
    if (typeof a === 'number' && typeof b === 'number') return sign * (a - b);
    return sign * (String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0);
  });
}

function missing(key: Key): number {
  return key === undefined || key === '' ? 1 : 0;
}

/** The sorting after a click on a column's title. */
export function clicked<T>(columns: readonly Column<T>[], sorting: Sorting, id: string): Sorting {
  if (sorting.id === id) return { id, descending: !sorting.descending };
  return { id, descending: columns.find((column) => column.id === id)?.high ?? false };
}
