// A small pprof file, for viewers that read nothing else.
import { gzipSync } from 'node:zlib';

/** A number as protobuf writes it. */
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
}

const number = (field: number, value: number) => [...varint(field << 3), ...varint(value)];
const bytes = (field: number, content: number[]) => [
  ...varint((field << 3) | 2),
  ...varint(content.length),
  ...content,
];
const packed = (field: number, values: number[]) => bytes(field, values.flatMap(varint));

/** Stacks, each from its outermost function to the one that used `value` ns of CPU time. */
export function pprof(stacks: readonly { stack: readonly string[]; value: number }[]): Uint8Array {
  const texts = ['', 'cpu', 'nanoseconds', ...new Set(stacks.flatMap(({ stack }) => stack))];
  const at = (text: string) => texts.indexOf(text);
  const functions = texts.slice(3);
  const message = [
    bytes(1, [...number(1, at('cpu')), ...number(2, at('nanoseconds'))]),
    ...stacks.map(({ stack, value }) =>
      bytes(2, [...packed(1, stack.map(at).reverse()), ...packed(2, [value])]),
    ),
    ...functions.map((name) => bytes(4, [...number(1, at(name)), ...bytes(4, number(1, at(name)))])),
    ...functions.map((name) => bytes(5, [...number(1, at(name)), ...number(2, at(name))])),
    ...texts.map((text) => bytes(6, [...new TextEncoder().encode(text)])),
  ];
  return gzipSync(Uint8Array.from(message.flat()));
}
