// Which triggers does a policy have, in words? Pure.
import type { Policy } from './api/types.ts';
import { at, type Json, MEASURED } from './edit/fields.ts';

/** The triggers that are on, such as `CPU 80 %`. */
export function triggersOf(policy: Policy): string[] {
  const found: string[] = [];
  for (const { trigger, word, unit } of MEASURED) {
    const threshold = at(policy.spec, `${trigger}.threshold`);
    if (threshold !== undefined) found.push(`${word} ${String(threshold)}${unit}`);
  }
  const listed = (path: string, one: string) => {
    const list = at(policy.spec, `triggers.${path}`) as Json[] | undefined;
    if (list && list.length > 0) found.push(`${list.length} ${one}${list.length === 1 ? '' : 's'}`);
  };
  listed('alerts', 'alert');
  for (const query of policy.spec.triggers?.promQL ?? []) found.push(`query ${query.name}`);
  if (at(policy.spec, 'triggers.rollout')) found.push('rollout');
  return found;
}
