// Which colour has a box? One by its package, from a fixed palette; in a comparison, one by what changed.
import type { Tree } from './columns.ts';
import { packageOf } from './format.ts';
import { onBasis } from './layout.ts';

/** Colours of one theme. Text on every box has a contrast of at least 4.5. */
export interface Theme {
  dark: boolean;
  text: string;
  back: string;
  run: string;
  pruned: string;
  found: string;
  foundText: string;
  selected: string;
}

export const LIGHT: Theme = {
  dark: false,
  text: '#1b1b1f',
  back: '#ffffff',
  run: '#b9bac2',
  pruned: '#9a9ba3',
  found: '#d9a8ff',
  foundText: '#1b1b1f',
  selected: '#0b57d0',
};

export const DARK: Theme = {
  dark: true,
  text: '#f3f3f6',
  back: '#17181c',
  run: '#4a4b53',
  pruned: '#63646d',
  found: '#8a2fc9',
  foundText: '#ffffff',
  selected: '#a8c7fa',
};

const HUES = 24;
const GOLDEN = 0.618033988749895;

/** A number from a text, the same everywhere (FNV-1a). */
export function hash(text: string): number {
  let sum = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) sum = Math.imul(sum ^ text.charCodeAt(at), 0x01000193);
  return sum >>> 0;
}

/** The palette of packages. */
export function palette(theme: Theme): string[] {
  return Array.from({ length: HUES }, (_, at) => {
    const hue = Math.round(((at * GOLDEN) % 1) * 360);
    return theme.dark ? `hsl(${hue} 34% 30%)` : `hsl(${hue} 58% 80%)`;
  });
}

/** By name: its place in the palette. */
export function byPackage(tree: Tree): Uint8Array {
  return Uint8Array.from(tree.names, (name, at) => hash(packageOf(name, tree.files[at] ?? '')) % HUES);
}

/** The palette of changes: from much less over the same to much more; the last one is noise. */
export function changes(theme: Theme): string[] {
  const steps = 8;
  const shade = (hue: number, at: number) =>
    theme.dark ? `hsl(${hue} ${20 + 6 * at}% ${24 + 1.6 * at}%)` : `hsl(${hue} 75% ${94 - 3 * at}%)`;
  const less = Array.from({ length: steps }, (_, at) => shade(212, steps - at));
  const more = Array.from({ length: steps }, (_, at) => shade(24, at + 1));
  return [...less, shade(212, 0), ...more, theme.dark ? '#3a3b41' : '#d4d5da'];
}

/** By row: its place in the palette of changes. */
export function byChange(tree: Tree): Uint8Array {
  const scale = onBasis(tree);
  const noise = changes(LIGHT).length - 1;
  const middle = (noise - 1) / 2;
  return Uint8Array.from(tree.total, (total, row) => {
    if (tree.base?.noise[row]) return noise;
    const after = total * scale.after;
    const base = (tree.base?.total[row] ?? 0) * scale.base;
    const change = (after - base) / (after + base || 1);
    return Math.round(middle + Math.sign(change) * Math.sqrt(Math.abs(change)) * middle);
  });
}
