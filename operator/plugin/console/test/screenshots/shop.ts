// What is on the screenshots of the README: a shop whose orders look up card issuers slowly.
import type { Session } from '../../src/api/types.ts';
import { session } from '../browser/recorded.ts';
import { columns } from '../trees.ts';

const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString();

function one(app: string, minutes: number, status: Session['status'], spec: Session['spec'] = {}): Session {
  const name = `${app}-${{ Schedule: 'round', CPU: 'cpu', Rollout: 'rollout' }[spec.trigger ?? 'Schedule'] ?? 'now'}`;
  const times = { startTime: ago(minutes), endTime: ago(minutes - 1), app: `Deployment/${app}` };
  const made = session(`${name}-${1000 + minutes}`, { ...times, ...status }, spec);
  for (const target of made.status!.targets ?? []) {
    target.pod = `${app}-5d9c7b-x2x4z`;
    target.workload = `Deployment/${app}`;
  }
  return made;
}

/** The sessions of the shop. */
export function sessions(): Session[] {
  const regressed = { type: 'Regressed', status: 'True', reason: 'Slower', message: '' } as const;
  const user = { trigger: 'OnDemand', requestedBy: { username: 'ada@example.com' } };
  return [
    one('orders', 1, { phase: 'Running', samples: 0, runningTime: ago(0.3) }, { ...user, duration: '30s' }),
    one('orders', 9, { cpuPercent: 91, samples: 5940 }, { trigger: 'CPU' }),
    one('cards', 14, { cpuPercent: 38, samples: 2970, conditions: [regressed] }, { trigger: 'Rollout' }),
    one('stock', 31, { cpuPercent: 12, samples: 1188 }),
    one('web', 32, { cpuPercent: 44, samples: 3861 }),
    one('mail', 33, { phase: 'Failed', reason: 'NoSamples', samples: 0, targets: [], targetsSummary: '0/1' }),
    one('orders', 92, { cpuPercent: 47, samples: 4752 }),
  ];
}

const STACKS: readonly [string, string, number][] = [
  ['.serve_forever', '/usr/lib/python3.11/socketserver.py', 10],
  ['..process_request', '/usr/lib/python3.11/socketserver.py', 12],
  ['...do_POST', '/app/shop/web.py', 35],
  ['....post_order', '/app/shop/orders.py', 60],
  ['.....find_issuer', '/app/shop/cards.py', 1480],
  ['......matches', '/app/shop/cards.py', 610],
  ['.......match', '/usr/lib/python3.11/re/__init__.py', 320],
  ['........_compile', '/usr/lib/python3.11/re/__init__.py', 150],
  ['......load_ranges', '/app/shop/cards.py', 240],
  ['.......loads', '/usr/lib/python3.11/json/__init__.py', 40],
  ['........raw_decode', '/usr/lib/python3.11/json/decoder.py', 180],
  ['.....reserve', '/app/shop/stock.py', 120],
  ['......execute', '/app/lib/python3.11/site-packages/psycopg/cursor.py', 210],
  ['.......wait', '/app/lib/python3.11/site-packages/psycopg/waiting.py', 90],
  ['.....total', '/app/shop/prices.py', 160],
  ['......vat', '/app/shop/prices.py', 90],
  ['....render', '/app/lib/python3.11/site-packages/jinja2/environment.py', 140],
  ['.....root', '/app/shop/templates/order.html', 180],
  ['...do_GET', '/app/shop/web.py', 40],
  ['....list_orders', '/app/shop/orders.py', 110],
  ['.....execute', '/app/lib/python3.11/site-packages/psycopg/cursor.py', 190],
  ['.....dumps', '/usr/lib/python3.11/json/__init__.py', 130],
  ['.collect', '/app/shop/metrics.py', 95],
];

/** The profile of the orders. */
export function profile(): object {
  const lines = STACKS.map(([name, , value]) => `${name} ${value * 1e7}`);
  const made = columns(['total 0', ...lines]);
  const fileOf = new Map(STACKS.map(([name, file]) => [name.replace(/^\.+/, ''), file]));
  return { ...made, files: made.names.map((name) => fileOf.get(name) ?? '') };
}
