// Where do edits of alerts and queries belong after somebody else has changed these lists? Pure.
import type { Policy } from '../api/types.ts';
import type { Edits } from './fields.ts';

/** The lists of a policy, and by what their entries are known; the form knows them by their places alone. */
function lists(policy: Policy): Record<string, string[]> {
  const { alerts, promQL } = policy.spec.triggers ?? {};
  return {
    'triggers.alerts': (alerts ?? []).map(({ matchers }) => JSON.stringify(matchers)),
    'triggers.promQL': (promQL ?? []).map(({ name }) => name),
  };
}

/** The edits of a policy for its new version: they move with their entries, and go with those that are gone. */
export function carried(before: Policy, after: Policy, edits: Edits): Edits {
  const [old, now] = [lists(before), lists(after)];
  if (JSON.stringify(old) === JSON.stringify(now)) return edits;
  const moved = Object.entries(edits).flatMap(([path, text]) => {
    const list = Object.keys(old).find((name) => path.startsWith(`${name}.`));
    if (list === undefined) return [[path, text]];
    const [place, ...rest] = path.slice(list.length + 1).split('.');
    const to = newPlace(old[list]!, now[list]!, Number(place));
    return to === undefined ? [] : [[[list, to, ...rest].join('.'), text]];
  });
  return Object.fromEntries(moved);
}

/** Where an entry is now; nothing if it is gone, or if others cannot be told from it. */
function newPlace(old: string[], now: string[], place: number): number | undefined {
  if (JSON.stringify(old) === JSON.stringify(now)) return place;
  const wanted = old[place];
  const alone = (list: string[]) => list.filter((entry) => entry === wanted).length === 1;
  return alone(old) && alone(now) ? now.indexOf(wanted!) : undefined;
}
