// How is a policy written as YAML, for people to take into their repository? Pure.
import type { Policy } from '../api/types.ts';

/** The kind of a policy: those of the cluster have no namespace. */
export function kindOf(policy: Policy): string {
  return policy.metadata.namespace ? 'ProfilingPolicy' : 'ClusterProfilingPolicy';
}

/** Words that YAML would read as something other than text. */
const READ_AS_OTHER = /^(true|false|null|yes|no|on|off|y|n|nan|inf)$/i;

/** An object as YAML in block style. Texts that are not plain words are quoted as in JSON, which YAML reads. */
export function toYaml(value: unknown, indent = ''): string {
  if (Array.isArray(value) && value.length > 0)
    return value
      .map(
        (item) =>
          `${indent}-${isBlock(item) ? ` ${toYaml(item, `${indent}  `).trimStart()}` : ` ${scalar(item)}\n`}`,
      )
      .join('');
  return Object.entries(value as object)
    .map(([key, item]) =>
      isBlock(item)
        ? `${indent}${scalar(key)}:\n${toYaml(item, `${indent}  `)}`
        : `${indent}${scalar(key)}: ${scalar(item)}\n`,
    )
    .join('');
}

function isBlock(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length > 0;
}

function scalar(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value);
  const plain = /^([A-Za-z][A-Za-z0-9_/-]*([.][A-Za-z0-9_/-]+)*|([0-9]+[hms])+)$/.test(value);
  return plain && !READ_AS_OTHER.test(value) ? value : JSON.stringify(value);
}
