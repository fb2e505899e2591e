// Do the forms allow what the schema allows? What they do not know the API server would refuse, or nobody could type.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Field, groups, TIMING, TIMINGS } from '../src/edit/fields.ts';
import { EMPTY, KINDS, problem } from '../src/order.ts';
import { schemaOf } from './schema.ts';

const metadata = { name: 'all', namespace: 'shop', uid: '1', resourceVersion: '7' };
const triggers = { alerts: [{ matchers: ['a="b"'] }], promQL: [{ name: 'q' }] };

/** All groups of the form, with the fields of every timing. */
const all = TIMINGS.flatMap((timing) => groups({ metadata, spec: { triggers } }, { [TIMING]: timing }));

test('fields of the form of a policy have the ranges, steps and choices of the schema', () => {
  const fields = new Map(all.flatMap(({ fields: of }) => of).map((field) => [field.path, field]));
  fields.delete(TIMING);
  assert.ok(fields.size > 40, `${fields.size}`);
  for (const kind of ['profilingpolicies', 'clusterprofilingpolicies'])
    for (const [path, field] of fields) {
      const schema = schemaOf(kind, path);
      assert.ok(schema, `${kind} has no ${path}`);
      assert.deepEqual(asTyped(field), { ...allowed(field), ...range(schema) }, `${kind}: ${path}`);
    }
});

/** What a field takes. */
function asTyped({ least, most, step, choices }: Field): object {
  return {
    ...(least === undefined ? {} : { least }),
    ...(most === undefined ? {} : { most }),
    ...(step === undefined || step === 1 ? {} : { step }),
    ...(choices === undefined ? {} : { choices }),
  };
}

/** What holds where the schema says nothing: no duration is below 0. */
const allowed = ({ kind }: Field) => (kind === 'duration' ? { least: 0 } : {});

function range({ initial: _, ...rest }: object & { initial?: string }): object {
  return rest;
}

test('a trigger that is switched on begins with the defaults of the schema', () => {
  const triggered = all.filter(({ trigger }) => trigger !== undefined);
  assert.ok(triggered.length > 20, `${triggered.length}`);
  for (const { trigger, initial } of triggered)
    for (const [field, value] of Object.entries(initial ?? {})) {
      const path = `${trigger}.${field}`;
      const by = schemaOf('profilingpolicies', path)?.initial;
      // What has no default must be given.
      if (by !== undefined) assert.equal(String(value), by, path);
      else assert.equal(path, 'triggers.threads.threshold');
    }
});

test('Profile now takes the durations, rates and kinds that a session takes', () => {
  const duration = schemaOf('profilesessions', 'duration')!;
  const rate = schemaOf('profilesessions', 'frequencyHz')!;
  const wrong = (more: object) => problem({ ...EMPTY, namespace: 'shop', app: 'Deployment/a', ...more });
  const at = (length: number) => wrong({ duration: `${length}s` });
  assert.deepEqual([at(duration.least!), at(duration.most!)], [undefined, undefined]);
  for (const length of [duration.least! - 1, duration.most! + 1])
    assert.match(at(length)!, /duration/, `${length}`);
  assert.deepEqual(
    [rate.least!, rate.most!].map((hz) => wrong({ frequency: `${hz}` })),
    [undefined, undefined],
  );
  for (const hz of [rate.least! - 1, rate.most! + 1]) assert.match(wrong({ frequency: `${hz}` })!, /Hz/);
  assert.deepEqual([...KINDS].sort(), schemaOf('profilesessions', 'profiles.0')!.choices!.sort());
});
