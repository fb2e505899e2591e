// What is sent when a policy is edited, and what is said before.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Api, ApiError } from '../src/api/client.ts';
import type { ManagedFields, Policy } from '../src/api/types.ts';
import { carried } from '../src/edit/carried.ts';
import { at, type Edits, groups, problemIn, trouble, valueAt } from '../src/edit/fields.ts';
import { ownerOf, warning } from '../src/edit/owner.ts';
import { asYaml, changes, owned, toApply, toRemove } from '../src/edit/patch.ts';
import { conflictsIn, send, tryOut } from '../src/edit/send.ts';
import { toYaml } from '../src/edit/yaml.ts';
import { triggersOf } from '../src/triggers.ts';

/** Managed fields from paths. */
function managing(
  manager: string,
  paths: readonly string[],
  more: Partial<ManagedFields> = {},
): ManagedFields {
  const fields: Record<string, unknown> = {};
  for (const path of paths) {
    let here = fields;
    for (const key of path.split('.')) {
      here[`f:${key}`] ??= {};
      here = here[`f:${key}`] as Record<string, unknown>;
    }
  }
  return { manager, operation: 'Update', fieldsV1: { 'f:spec': fields }, ...more };
}

const applied = (...paths: string[]) => managing('fleetprof-console', paths, { operation: 'Apply' });

function policy(spec: object, managedFields: ManagedFields[] = [], more: object = {}): Policy {
  const metadata = { name: 'all', namespace: 'shop', uid: '1', resourceVersion: '7', managedFields, ...more };
  return { metadata, spec };
}

const CPU = { threshold: 80, window: '30s', duration: '30s', cooldown: '4h' };
const HOURLY = { every: '1h', duration: '2m' };
const specOf = (one: Policy, edits: Edits) => (toApply(one, edits) as { spec: object }).spec;

test('only what was changed is applied, of the version that was seen', () => {
  const one = policy({ schedule: HOURLY, triggers: { cpu: CPU }, frequencyHz: 99 });
  assert.deepEqual(toApply(one, { 'triggers.cpu.threshold': '70', frequencyHz: '99' }), {
    apiVersion: 'fleetprof.dev/v1alpha1',
    kind: 'ProfilingPolicy',
    metadata: { name: 'all', namespace: 'shop', resourceVersion: '7' },
    spec: { triggers: { cpu: { threshold: 70 } } },
  });
  assert.deepEqual([...changes(one, {})], []);
  assert.deepEqual([...changes(one, { 'triggers.cpu.threshold': '80' })], [], 'back to what it was');
});

test('what the console applied before is applied again, for otherwise it would go', () => {
  const before = applied('triggers.cpu.threshold', 'schedule.every');
  const other = managing('kubectl', ['schedule.duration', 'selector']);
  const status = managing('fleetprof-console', ['frequencyHz'], {
    operation: 'Apply',
    subresource: 'status',
  });
  const one = policy({ schedule: HOURLY, triggers: { cpu: CPU } }, [before, other, status]);
  assert.deepEqual(specOf(one, { 'triggers.cpu.cooldown': '1h' }), {
    triggers: { cpu: { threshold: 80, cooldown: '1h' } },
    schedule: { every: '1h' },
  });
  assert.deepEqual(owned(other), ['schedule.duration'], 'the selector is none of its business');
});

test('a trigger that is switched on has the defaults, but for what was typed', () => {
  const one = policy({});
  assert.deepEqual(specOf(one, { 'triggers.pressure.io': 'on', 'triggers.pressure.io.threshold': '50' }), {
    triggers: { pressure: { io: { threshold: 50, window: '30s', duration: '30s', cooldown: '4h' } } },
  });
  assert.deepEqual(specOf(one, { 'triggers.cpu': 'on', 'triggers.cpu.cooldown': '2h' }), {
    triggers: { cpu: { ...CPU, cooldown: '2h' } },
  });
});

test('what is removed is left out, and emptied where somebody else has set it', () => {
  const mine = policy({ triggers: { cpu: CPU } }, [applied('triggers.cpu.threshold', 'triggers.cpu.window')]);
  assert.deepEqual(specOf(mine, { 'triggers.cpu': '' }), {});
  const theirs = policy({ triggers: { cpu: CPU } }, [managing('kubectl', ['triggers.cpu.threshold'])]);
  assert.deepEqual(specOf(theirs, { 'triggers.cpu': '' }), {}, 'an apply cannot take it away');
  assert.deepEqual(toRemove(theirs, { 'triggers.cpu': '' }), {
    patch: { metadata: { resourceVersion: '7' }, spec: { triggers: { cpu: null } } },
    paths: ['triggers.cpu'],
  });
  assert.equal(toRemove(mine, { 'triggers.cpu': '' }), undefined);
  const hourly = policy({ schedule: HOURLY }, [managing('kubectl', ['schedule.every', 'schedule.duration'])]);
  assert.deepEqual(specOf(hourly, { 'schedule.timing': 'cron', 'schedule.cron': '0 3 * * MON-FRI' }), {
    schedule: { cron: '0 3 * * MON-FRI', every: null },
  });
});

test('alerts and queries are lists, which are applied as a whole', () => {
  const alerts = [
    { matchers: ['alertname="A"'], cooldown: '4h' },
    { matchers: ['b="c"'], cooldown: '4h' },
  ];
  const one = policy({ triggers: { alerts, promQL: [{ name: 'slow', query: 'x > 1', for: '1m' }] } });
  const titles = groups(one, {}).map(({ title }) => title);
  assert.ok(titles.includes('Alert b="c"') && titles.includes('Query slow'), titles.join());
  assert.deepEqual(specOf(one, { 'triggers.alerts.1.cooldown': '1h', 'triggers.promQL.0.for': '5m' }), {
    triggers: {
      alerts: [alerts[0], { matchers: ['b="c"'], cooldown: '1h' }],
      promQL: [{ name: 'slow', query: 'x > 1', for: '5m' }],
    },
  });
  assert.equal(alerts[1]!.cooldown, '4h', 'the policy itself stays as it is');
});

test('what cannot be in a field is said before it is sent', () => {
  const one = policy({ triggers: { cpu: CPU, throttling: CPU, rollout: { delay: '60s' } } });
  const fields = new Map(
    groups(one, {}).flatMap((group) => group.fields.map((field) => [field.path, field])),
  );
  const cases: [string, string, boolean][] = [
    ['triggers.cpu.threshold', '100', true],
    ['triggers.cpu.threshold', '101', false],
    ['triggers.cpu.threshold', '8.5', false],
    ['triggers.cpu.threshold', '-1', false],
    ['triggers.cpu.threshold', '', false],
    ['triggers.throttling.threshold', '27', false],
    ['triggers.throttling.threshold', '25', true],
    ['triggers.cpu.cooldown', '1m59s', false],
    ['triggers.cpu.cooldown', '168h', true],
    ['triggers.cpu.cooldown', '1d', false],
    ['triggers.cpu.window', '30', false],
    ['triggers.rollout.delay', '0s', true],
    ['schedule.every', '', true],
    ['schedule.every', '59s', false],
  ];
  for (const [path, text, good] of cases)
    assert.equal(trouble(fields.get(path)!, text) === undefined, good, `${path} ${text}`);
});

test('a timing that is chosen needs its value', () => {
  const hourly = policy({ schedule: HOURLY });
  const wrong = (edits: Edits, one = hourly) => problemIn(one, edits);
  assert.equal(wrong({ 'schedule.timing': 'cron' }), 'Schedule: Cron expression: a value is missing.');
  assert.equal(wrong({ 'schedule.timing': 'preset' }), 'Schedule: Share of the time: a value is missing.');
  assert.equal(wrong({ 'schedule.timing': 'preset', 'schedule.preset': 'High' }), undefined);
  assert.equal(wrong({ 'schedule.timing': 'cron', 'schedule.cron': '0 3 * * *' }), undefined);
  const nightly = policy({ schedule: { cron: '0 3 * * *', duration: '2m' } });
  assert.equal(wrong({ 'schedule.timing': 'cron' }, nightly), undefined, 'it has one');
  assert.equal(wrong({ 'schedule.timing': 'every' }, nightly), undefined, 'the schema has one');
  assert.equal(wrong({}, policy({ schedule: { cron: '' } })), undefined, 'only what was changed is judged');
});

test('edits of alerts and queries stay with these when somebody else changes the lists', () => {
  const of = (matchers: string[], names: string[] = ['slow']) =>
    policy({
      triggers: {
        alerts: matchers.map((matcher) => ({ matchers: [matcher], cooldown: '4h' })),
        promQL: names.map((name) => ({ name })),
      },
    });
  const edits = { 'triggers.alerts.1.cooldown': '1h', 'triggers.promQL.0.for': '5m', frequencyHz: '49' };
  const { 'triggers.alerts.1.cooldown': _, ...others } = edits;
  const now = (after: Policy, before = of(['a', 'b'])) => carried(before, after, edits);
  assert.equal(now(of(['a', 'b'])), edits, 'nothing has changed');
  assert.deepEqual(now(of(['b', 'c'])), { ...others, 'triggers.alerts.0.cooldown': '1h' }, 'it moved');
  assert.deepEqual(now(of(['a'])), others, 'it is gone');
  assert.deepEqual(now(of(['a', 'c'])), others, 'another is in its place');
  assert.deepEqual(now(of(['b', 'b'])), others, 'which one it was cannot be told');
  assert.deepEqual(now(of(['b', 'b', 'a']), of(['b', 'b'])), others, 'it could not be told before');
  assert.deepEqual(now(of(['a', 'b'], [])), {
    'triggers.alerts.1.cooldown': '1h',
    frequencyHz: '49',
  });
  assert.deepEqual(now(policy({})), { frequencyHz: '49' }, 'without any triggers');
});

test('a path leads to own fields alone', () => {
  assert.equal(at({}, 'constructor.name'), undefined);
  assert.equal(at({ a: null }, 'a.b'), undefined);
  assert.equal(at({ a: [{ b: 1 }] }, 'a.0.b'), 1);
});

test('the change is YAML that says the same', () => {
  const one = policy({ schedule: HOURLY, triggers: { alerts: [{ matchers: ['a="b"'], cooldown: '4h' }] } });
  const edits = {
    'schedule.timing': 'cron',
    'schedule.cron': '0 3 * * *',
    'triggers.alerts.0.cooldown': '1h',
    'triggers.cpu': 'on',
  };
  assert.equal(
    asYaml(one, edits),
    `apiVersion: fleetprof.dev/v1alpha1
kind: ProfilingPolicy
metadata:
  name: all
  namespace: shop
spec:
  schedule:
    cron: "0 3 * * *"
    every: null
  triggers:
    cpu:
      threshold: 80
      window: 30s
      duration: 30s
      cooldown: 4h
    alerts:
      - matchers:
          - "a=\\"b\\""
        cooldown: 1h
`,
  );
  assert.equal(
    toYaml({ a: 'yes', b: '1e3', c: '', d: 'x: y', e: [], f: '- x', g: 'ok' }),
    'a: "yes"\nb: "1e3"\nc: ""\nd: "x: y"\ne: []\nf: "- x"\ng: ok\n',
  );
});

test('tools that would take the change back are known by their marks', () => {
  const marked = (more: object, managed: ManagedFields[] = []) => ownerOf(policy({}, managed, more));
  const cases: [ReturnType<typeof ownerOf>, object | undefined][] = [
    [marked({}), undefined],
    [marked({ labels: { 'app.kubernetes.io/instance': 'x' } }), undefined],
    [
      marked({
        annotations: { 'argocd.argoproj.io/tracking-id': 'shop:fleetprof.dev/ProfilingPolicy:shop/all' },
      }),
      { tool: 'Argo CD', of: 'shop' },
    ],
    [marked({ labels: { 'argocd.argoproj.io/instance': 'shop' } }), { tool: 'Argo CD', of: 'shop' }],
    [
      marked({
        labels: {
          'kustomize.toolkit.fluxcd.io/name': 'apps',
          'kustomize.toolkit.fluxcd.io/namespace': 'flux-system',
        },
      }),
      { tool: 'Flux', of: 'flux-system/apps' },
    ],
    [marked({ labels: { 'helm.toolkit.fluxcd.io/name': 'r' } }), { tool: 'Flux', of: 'r' }],
    [marked({ annotations: { 'meta.helm.sh/release-name': 'r' } }), { tool: 'Helm', of: 'r' }],
    [marked({}, [managing('argocd-controller', ['schedule'])]), { tool: 'Argo CD', of: '' }],
    [marked({}, [managing('kustomize-controller', ['schedule'])]), { tool: 'Flux', of: '' }],
    [marked({}, [managing('helm', ['schedule'], { subresource: 'status' })]), undefined],
  ];
  for (const [found, wanted] of cases) assert.deepEqual(found, wanted);
  assert.match(
    warning({ tool: 'Argo CD', of: 'shop' }),
    /^Argo CD \(shop\) manages this policy: it will revert/,
  );
});

/** An API server that gives these answers, and what it was asked. */
function answering(...answers: (() => Response)[]) {
  const asked: { method: string; path: string; body: string }[] = [];
  const api = new Api('token', async (path, init) => {
    asked.push({ method: init?.method ?? '', path, body: String(init?.body ?? '') });
    return answers.shift()!();
  });
  return { api, asked };
}

const refused = (causes: object[]) => () =>
  Response.json({ reason: 'Conflict', message: 'conflict', details: { causes } }, { status: 409 });
const taken = refused([
  { reason: 'FieldManagerConflict', message: 'conflict with "kubectl"', field: '.spec.frequencyHz' },
]);
const outdated = refused([]);

test('a dry run says who has set a field, and what the schema says once it is taken over', async () => {
  const one = policy({ frequencyHz: 99 });
  const edits = { frequencyHz: '49' };
  const fine = () => Response.json(one);
  const { api, asked } = answering(taken, fine);
  assert.deepEqual(await tryOut(api, one, edits), [
    { field: 'spec.frequencyHz', message: 'conflict with "kubectl"' },
  ]);
  assert.deepEqual(
    asked.map(({ path }) => path.split('?')[1]),
    ['dryRun=All', 'dryRun=All&force=true'],
  );
  const invalid = () => Response.json({ reason: 'Invalid', message: 'no' }, { status: 422 });
  await assert.rejects(tryOut(answering(taken, invalid).api, one, edits), /no/);
  assert.deepEqual(await tryOut(answering(fine).api, one, edits), []);
});

test('another version is no obstacle unless somebody changed the spec', async () => {
  const one = policy({ frequencyHz: 99 });
  const newer = { ...one, metadata: { ...one.metadata, resourceVersion: '8' } };
  const { api, asked } = answering(
    outdated,
    () => Response.json(newer),
    () => Response.json(newer),
  );
  await send(api, one, { frequencyHz: '49' });
  assert.match(asked[2]!.body, /"resourceVersion":"8"/);
  assert.ok(!asked[0]!.path.includes('force'), asked[0]!.path);
  const other = { ...newer, spec: { frequencyHz: 20 } };
  const again = answering(outdated, () => Response.json(other));
  await assert.rejects(send(again.api, one, { frequencyHz: '49' }), /Somebody else has just changed/);
  assert.equal(again.asked.length, 2, 'nothing is sent over it');
  const always = answering(
    ...Array.from({ length: 9 }, (_, at) => (at % 2 ? () => Response.json(one) : outdated)),
  );
  await assert.rejects(send(always.api, one, { frequencyHz: '49' }), ApiError);
  assert.equal(always.asked.length, 7, 'it gives up');
  assert.deepEqual(conflictsIn(new Error('x')), []);
});

test('what was emptied is taken away by another apply', async () => {
  const others = managing('kubectl', ['schedule.every', 'schedule.duration']);
  const one = policy({ schedule: HOURLY }, [others]);
  const mine = applied('schedule.cron', 'schedule.every');
  const emptied = policy({ schedule: { cron: '0 3 * * *', every: null, duration: '2m' } }, [mine]);
  const { api, asked } = answering(
    () => Response.json(emptied),
    () => Response.json(one),
  );
  await send(api, one, { 'schedule.timing': 'cron', 'schedule.cron': '0 3 * * *' }, { force: 'true' });
  assert.deepEqual(
    asked.map(({ body }) => (JSON.parse(body) as Policy).spec),
    [{ schedule: { cron: '0 3 * * *', every: null } }, { schedule: { cron: '0 3 * * *' } }],
  );
  assert.equal(valueAt(emptied, {}, 'schedule.timing'), 'cron');
  assert.deepEqual([...changes(emptied, {})], [], 'an empty field is as one that is not there');
});

test('triggers of others go by a patch of their own, once that is wanted', async () => {
  const one = policy({ triggers: { cpu: CPU }, frequencyHz: 99 }, [
    managing('kubectl', ['triggers.cpu.window']),
  ]);
  const edits = { 'triggers.cpu': '', frequencyHz: '49' };
  const newer = { ...one, metadata: { ...one.metadata, resourceVersion: '8' } };
  const fine = () => Response.json(newer);
  const unasked = answering();
  await assert.rejects(send(unasked.api, one, edits), /Other field managers have set these triggers/);
  assert.deepEqual(unasked.asked, [], 'nothing is changed by halves');
  const dry = answering(fine, fine, fine);
  assert.deepEqual(await tryOut(dry.api, one, edits), [
    { field: 'spec.triggers.cpu', message: 'set by "kubectl"' },
  ]);
  assert.ok(dry.asked.every(({ path }) => path.includes('dryRun=All')));
  assert.match(dry.asked[2]!.body, /"resourceVersion":"7"/, 'a dry run makes no new version');
  const real = answering(fine, outdated, fine, fine);
  await send(real.api, one, edits, { force: 'true' });
  assert.deepEqual(
    real.asked.map(({ method, body }) => `${method} ${body}`),
    [
      'PATCH {"apiVersion":"fleetprof.dev/v1alpha1","kind":"ProfilingPolicy","metadata":{"name":"all","namespace":"shop","resourceVersion":"7"},"spec":{"frequencyHz":49}}',
      'PATCH {"metadata":{"resourceVersion":"8"},"spec":{"triggers":{"cpu":null}}}',
      'GET ',
      'PATCH {"metadata":{"resourceVersion":"8"},"spec":{"triggers":{"cpu":null}}}',
    ],
  );
});

test('a trigger of others stays whole until the patch takes it away', () => {
  const mine = applied('triggers.cpu.threshold', 'triggers.memory.threshold', 'triggers.cpu.cooldown');
  const one = policy({ triggers: { cpu: CPU, memory: CPU }, frequencyHz: 99 }, [
    mine,
    managing('kubectl', ['triggers.cpu.window']),
  ]);
  const edits = { 'triggers.cpu': '', 'triggers.memory': '', frequencyHz: '49' };
  assert.deepEqual(
    specOf(one, edits),
    { triggers: { cpu: { threshold: 80, cooldown: '4h' } }, frequencyHz: 49 },
    'without its threshold, what is left of it would be refused',
  );
  assert.deepEqual(toRemove(one, edits)?.paths, ['triggers.cpu']);
});

test('triggers are listed in words', () => {
  const spec = {
    triggers: {
      cpu: CPU,
      pressure: { io: { threshold: 25 } },
      threads: { threshold: 500 },
      alerts: [{ matchers: [] }],
      promQL: [{ name: 'slow' }],
      rollout: { delay: '1m' },
    },
  };
  assert.deepEqual(triggersOf(policy(spec)), [
    'CPU 80 %',
    'I/O pressure 25 %',
    'threads 500',
    '1 alert',
    'query slow',
    'rollout',
  ]);
  assert.deepEqual(triggersOf(policy({})), []);
});
