// What the API server answers in the tests: as a cluster did, with names that an attacker would choose.
import type { Policy, Session } from '../../src/api/types.ts';
import { columns, large } from '../trees.ts';
import { managing } from './apply.ts';

/** Text that runs if it is ever read as HTML. */
export const HOSTILE = '</script><img/src=x/onerror="window.hit=1"><b>';

let serial = 0;

/** An object's metadata. */
function meta(namespace: string, name: string) {
  const creationTimestamp = new Date(Date.now() - 60_000).toISOString();
  return { namespace, name, uid: `uid-${++serial}`, resourceVersion: '1', creationTimestamp };
}

/** A session that has ended with data, or what `status` says. */
export function session(name: string, status: Session['status'] = {}, spec: Session['spec'] = {}): Session {
  const end = new Date(Date.now() - 30_000).toISOString();
  return {
    metadata: meta('shop', name),
    spec: {
      trigger: 'Schedule',
      duration: '30s',
      profiles: ['cpu'],
      target: { workload: { kind: 'Deployment', name: 'orders' } },
      ...spec,
    },
    status: {
      phase: 'Succeeded',
      app: 'Deployment/orders',
      startTime: new Date(Date.now() - 90_000).toISOString(),
      endTime: end,
      targetsSummary: '1/1',
      samples: 2970,
      cpuPercent: 40,
      memoryPercent: 20,
      targets: [
        {
          pod: 'orders-5d9c7b-x2x4z',
          workload: 'Deployment/orders',
          container: 'app',
          runtime: 'Python 3.11',
          collector: 'cpython',
          phase: 'Succeeded',
          samples: 2970,
          coverage: 97,
          profiles: [{ type: 'cpu', samples: 2970 }],
        },
      ],
      ...status,
    },
  };
}

const ended = { cpuPercent: 10, samples: 0, targets: [], targetsSummary: '0/1' };

/** The sessions at the beginning. */
export function sessions(): Session[] {
  const wall = { type: 'wall', samples: 600 };
  const two = session('orders-two', { cpuPercent: 90, samples: 5000 });
  two.status!.targets![0]!.profiles!.push(wall);
  return [
    two,
    session('orders-old', { cpuPercent: 30, samples: 100 }),
    session('orders-big', { app: 'Deployment/big' }),
    session('orders-idle', { ...ended, phase: 'Failed', reason: 'NoSamples', message: 'The app was idle.' }),
    session('orders-broken', {
      ...ended,
      phase: 'Failed',
      reason: 'PermissionDenied',
      message: 'perf is forbidden.',
    }),
    session('orders-bad', { app: `Deployment/${HOSTILE}`, message: HOSTILE }, { context: { note: HOSTILE } }),
    session('orders-late', {
      ...ended,
      phase: 'Processing',
      captureEndTime: new Date(Date.now() - 1_000_000).toISOString(),
      conditions: [{ type: 'ResultsDelayed', status: 'True', reason: 'ResultsDelayed', message: '' }],
    }),
    session('orders-runs', {
      ...ended,
      phase: 'Running',
      runningTime: new Date(Date.now() - 10_000).toISOString(),
      message: 'Capturing.',
    }),
  ];
}

/** A policy that Argo CD applies. */
function deployed(): Policy {
  const labels = { 'argocd.argoproj.io/instance': `stock ${HOSTILE}` };
  return {
    metadata: { ...meta('stock', 'stock'), labels },
    spec: { schedule: { every: '2h', duration: '2m' }, frequencyHz: 49 },
    status: { schedule: 'every 2h for 2m', linkedAppCount: 0 },
  };
}

/** What the policy `shop` says of when it profiles, and who has said so. */
const SPEC = {
  schedule: { every: '1h', duration: '2m' },
  triggers: {
    cpu: { threshold: 80, window: '30s', duration: '30s', cooldown: '4h' },
    alerts: [{ matchers: [`alertname="${HOSTILE}"`], duration: '30s', cooldown: '4h' }],
  },
  sampling: { percent: 100, replicasPerWorkload: 1, maxTargets: 50 },
  frequencyHz: 99,
  suspend: false,
};
const MANAGED = [managing('kubectl', 'Update', ['triggers.cpu.threshold', 'schedule.every'])];

/** The policies at the beginning. */
export function policies(): Policy[] {
  const app = { kind: 'Deployment', container: 'app', pods: 3, linked: 3, state: 'Linked', reason: 'Linked' };
  return [
    {
      metadata: { ...meta('shop', 'shop'), managedFields: MANAGED },
      spec: SPEC,
      status: {
        schedule: 'every 1h for 2m',
        conditions: [{ type: 'Ready', status: 'True', reason: 'Ready', message: HOSTILE }],
        linkedAppCount: 3,
        linkedApps: [
          {
            ...app,
            name: 'orders',
            runtime: 'Python 3.11',
            agentModes: ['Sidecar'],
            agentVersions: ['0.1.0'],
          },
          { ...app, name: 'cards', linked: 0, state: 'NotLinked', reason: 'UnknownUser', message: HOSTILE },
          { ...app, name: 'stock', outdated: 2, agentVersions: ['0.0.9', '0.1.0'] },
        ],
      },
    },
    deployed(),
  ];
}

const SMALL = [
  'total 0',
  '.main 10',
  '..post_order 20',
  '...find_issuer 700',
  '...json 100',
  `..${HOSTILE} 120`,
  '..gc 50',
];

/** What was left out is the left half of `handle`, which itself is the right tenth of all. */
const CUT = ['total 0', '.idle 900', '.handle 50 pruned 50'];

/** The files of SMALL: the third function is of Python's library. */
const FILES = [
  '',
  '/app/main.py',
  '/app/orders.py',
  '/app/cards.py',
  '/usr/lib/python3.11/json/decoder.py',
  '',
  '',
];

/** The call tree of a session. */
export function tree(name: string): object {
  if (name === 'orders-big') return large(100_000);
  if (name === 'orders-cut') return columns(CUT);
  if (name === 'orders-files') return columns(SMALL, { files: FILES });
  return columns(name === 'orders-old' ? ['total 0', '.main 10 pruned 90', '..post_order 20'] : SMALL);
}

/** The comparison of two. */
export function comparison(): object {
  const all = columns(SMALL);
  const base = {
    total: 500,
    samples: 500,
    podSeconds: 10,
    prunedValue: 0,
    self: [0, 10, 20, 300, 100, 70, 0],
    pruned: all.pruned,
  };
  return { ...all, basis: 'perPodSecond', base, noise: [false, true, true, false, true, false, false] };
}
