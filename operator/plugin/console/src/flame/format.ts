// How are values and names shown? The same on every machine: no locale, no chance.

const UNITS: Record<string, [number, string][]> = {
  nanoseconds: [
    [3.6e12, 'h'],
    [6e10, 'min'],
    [1e9, 's'],
    [1e6, 'ms'],
    [1e3, 'µs'],
    [1, 'ns'],
  ],
  bytes: [
    [2 ** 30, 'GiB'],
    [2 ** 20, 'MiB'],
    [1024, 'KiB'],
    [1, 'B'],
  ],
};

/** A value with its unit, such as `1.25 s`. */
export function value(amount: number, unit: string): string {
  const units = UNITS[unit] ?? [];
  const [size, name] = units.find(([least]) => Math.abs(amount) >= least) ?? [1, units.at(-1)?.[1] ?? ''];
  const text = size === 1 && Number.isInteger(amount) ? count(amount) : digits(amount / size);
  return name ? `${text} ${name}` : text;
}

/** A whole number with a thin space between thousands, such as `12 345`. */
export function count(amount: number): string {
  return String(Math.round(amount)).replace(/\B(?=(\d{3})+$)/g, '\u2009');
}

/** A share of 0 to 1 as percent, such as `12.3 %`. */
export function percent(share: number): string {
  const amount = share * 100;
  if (amount !== 0 && Math.abs(amount) < 0.01) return amount < 0 ? '> -0.01 %' : '< 0.01 %';
  return `${amount.toFixed(Math.abs(amount) < 10 ? 2 : 1)} %`;
}

function digits(amount: number): string {
  const size = Math.abs(amount);
  return amount.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

// Control characters, and those that change the direction of the text around them.
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to replace.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The same of a text with several lines. */
export function cleanLines(text: string): string {
  return text.split('\n').map(clean).join('\n');
}

/** A name from a profiled process, safe to be shown as text. */
export function clean(name: string): string {
  return name.replace(HIDDEN, '\ufffd');
}

/** The package of a function: what its name begins with, else its file, else the name itself. */
export function packageOf(name: string, file: string): string {
  const plain = name.replace(/^<+/, '').replace(/[(<[].*$/, '');
  const slash = plain.lastIndexOf('/') + 1;
  const colons = plain.indexOf('::', slash);
  if (colons > 0) return plain.slice(0, colons);
  const parts = plain.slice(slash).split('.');
  // Java: a.b.Class.method; Go: path/package.Type.method.
  const kept = slash === 0 && parts.length > 2 ? parts.slice(0, -2) : parts.slice(0, 1);
  if (parts.length > 1) return plain.slice(0, slash) + kept.join('.');
  return file.slice(file.lastIndexOf('/') + 1) || plain;
}

/** Shorter forms of a name, the longest first: without its package, then the last part alone. */
export function shorter(name: string): string[] {
  const plain = name.replace(/\(.*$/, '');
  const parts = plain.split(/\/|::|\./).filter((part) => part !== '');
  return parts.length < 2 ? [] : [parts.slice(-2).join('.'), parts.at(-1)!];
}
