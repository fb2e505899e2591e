// What does the schema of a kind say of a field? Read from the generated CRDs, whose form is always the same.
import { readFileSync } from 'node:fs';
import { seconds } from '../src/sessions.ts';

export interface Schema {
  /** Range of a number, or of a duration in seconds. */
  least?: number;
  most?: number;
  step?: number;
  choices?: string[];
  initial?: string;
}

const depth = (line: string) => line.length - line.trimStart().length;

/** The lines below a key of a block. */
function below(block: readonly string[], key: string): string[] | undefined {
  const level = Math.min(...block.map(depth));
  const at = block.findIndex((line) => depth(line) === level && line.trimStart().startsWith(`${key}:`));
  if (at < 0) return undefined;
  const rest = block.slice(at + 1);
  const end = rest.findIndex((line) => depth(line) < level || (depth(line) === level && line[level] !== '-'));
  return rest.slice(0, end < 0 ? rest.length : end);
}

/** The schema of the spec of a kind, as lines. */
function ofSpec(kind: string): string[] {
  const lines = readFileSync(`../../../crds/${kind}.yaml`, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '');
  const from = lines.findIndex((line) => line.trim() === 'openAPIV3Schema:');
  const rest = lines.slice(from + 1);
  const end = rest.findIndex((line) => depth(line) <= depth(lines[from]!));
  return below(below(rest.slice(0, end), 'properties')!, 'spec')!;
}

/** What the schema says of a field, such as `triggers.cpu.window`; nothing where there is none. */
export function schemaOf(kind: string, path: string): Schema | undefined {
  let [parent, here] = [[] as string[], ofSpec(kind)];
  const parts = path.split('.');
  for (const part of parts) {
    const inside = /^\d+$/.test(part) ? below(here, 'items') : below(below(here, 'properties') ?? [], part);
    if (inside === undefined) return undefined;
    if (!/^\d+$/.test(part)) parent = here;
    here = inside;
  }
  const own = (word: string) => {
    const line = here.find((one) => depth(one) === depth(here[0]!) && one.trim().startsWith(`${word}: `));
    return line?.trim().slice(word.length + 2);
  };
  const choices = below(here, 'enum')?.map((line) => line.trim().slice(2));
  const [least, most, initial] = ['minimum', 'maximum', 'default'].map(own);
  return {
    ...(least === undefined ? {} : { least: Number(least) }),
    ...(most === undefined ? {} : { most: Number(most) }),
    ...(initial === undefined ? {} : { initial }),
    ...(choices === undefined ? {} : { choices }),
    ...ruled(below(parent, 'x-kubernetes-validations') ?? [], parts.at(-1)!),
  };
}

/** The range or the step that the rules of an object give one of its fields. */
function ruled(rules: readonly string[], field: string): Schema {
  const text = rules.map((line) => line.trim()).join(' ');
  const self = `self\\.(?:${field}|__${field}__)`;
  const bound = (sign: string) =>
    new RegExp(`duration\\(${self}\\) ${sign} duration\\('(\\w+)'\\)`).exec(text)?.[1];
  const [least, most] = [bound('>='), bound('<=')];
  const step = new RegExp(`${self} % (\\d+) == 0`).exec(text)?.[1];
  return {
    ...(least === undefined ? {} : { least: seconds(least) }),
    ...(most === undefined ? {} : { most: seconds(most) }),
    ...(step === undefined ? {} : { step: Number(step) }),
  };
}
