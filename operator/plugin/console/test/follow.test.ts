// Does a list stay true? Against answers in the order in which an API server gives them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Api, ApiError, begin, refuses } from '../src/api/client.ts';
import { apply, batches, follow, type Live, loading, still } from '../src/api/follow.ts';
import { type Read, reread } from '../src/api/reread.ts';

interface Item {
  metadata: { name: string; uid: string; resourceVersion: string };
}
const item = (name: string, version = '1'): Item => ({
  metadata: { name, uid: name, resourceVersion: version },
});
const list =
  (...names: string[]) =>
  () =>
    Response.json({ items: names.map((name) => item(name)), metadata: { resourceVersion: '10' } });
const stream =
  (...chunks: string[]) =>
  () =>
    new Response(new Blob(chunks).stream().pipeThrough(new TransformStream()));
const event = (type: string, object: object) => `${JSON.stringify({ type, object })}\n`;
const refused = (code: number) => () => Response.json({ message: 'no', reason: 'R' }, { status: code });
const gone = () => {
  throw new TypeError('network');
};

/** What is told, and asked, until the answers are used up. */
async function told(answers: (() => Response)[], poll = 0) {
  const stop = new AbortController();
  const asked: string[] = [];
  const lives: string[] = [];
  const pauses: number[] = [];
  const fetch_ = async (path: string) => {
    asked.push(path);
    const next = answers.shift();
    if (!next) {
      stop.abort();
      throw new DOMException('', 'AbortError');
    }
    return next();
  };
  const tell = ({ state, items }: Live<Item>) => lives.push(`${state}: ${[...items.keys()].join(' ')}`);
  const pause = async (ms: number) => void pauses.push(ms);
  await follow<Item>(new Api('token', fetch_), '/things', { tell, signal: stop.signal, pause, poll });
  return { asked, lives, pauses };
}

test('a list is followed by its changes', async () => {
  const events =
    event('ADDED', item('b', '11')) + event('DELETED', item('a', '12')) + event('BOOKMARK', item('x', '15'));
  const { asked, lives } = await told([list('a'), stream(events)]);
  assert.deepEqual(lives, ['live: a', 'live: a', 'live: b']);
  assert.match(asked[1]!, /^\/api\/things\?watch=1.*resourceVersion=10$/);
  assert.match(asked[2]!, /resourceVersion=15$/, 'it goes on from the bookmark');
});

test('after 410 it lists again at once, and what is gone is gone', async () => {
  const expired = stream(event('ERROR', { code: 410, reason: 'Expired', message: 'too old' }));
  const { lives, pauses } = await told([list('a'), expired, list('b'), refused(410), list('c')]);
  assert.deepEqual(lives, ['live: a', 'live: a', 'live: b', 'live: c']);
  assert.deepEqual(pauses, []);
});

test('while it reconnects, with growing pauses, it keeps what it knows', async () => {
  const { lives, pauses } = await told([list('a'), gone, gone, refused(500), gone, list('a', 'b')]);
  assert.deepEqual(lives, ['live: a', ...Array(4).fill('reconnecting: a'), 'live: a b']);
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000]);
});

test('who may not read is told so, and asked again after a minute', async () => {
  const { lives, pauses } = await told([refused(403), list('a')]);
  assert.deepEqual([lives, pauses], [['failed: ', 'live: a'], [60_000]]);
});

test('a long list comes in parts', async () => {
  const first = () =>
    Response.json({ items: [item('a')], metadata: { resourceVersion: '9', continue: 'n/1' } });
  const { asked, lives } = await told([first, list('b')]);
  assert.deepEqual([asked[1], lives], ['/api/things?limit=500&continue=n%2F1', ['live: a b']]);
});

test('a list that is polled is not watched', async () => {
  const { asked, pauses } = await told([list('a'), list('b')], 20_000);
  assert.ok(asked.every((path) => !path.includes('watch')));
  assert.deepEqual(pauses, [20_000, 20_000]);
});

test('a connection that died in silence is given up, and the watch goes on from where it was', async () => {
  const stop = new AbortController();
  const asked: string[] = [];
  const lives: string[] = [];
  const alarms: { ms: number; ring: () => void; off: boolean }[] = [];
  // Ends when it is told to, as those of a browser do, and says nothing else.
  const dead = (signal: AbortSignal) => {
    signal.throwIfAborted();
    const start = (stream: ReadableStreamDefaultController) =>
      signal.addEventListener('abort', () => stream.error(signal.reason));
    return new Response(new ReadableStream({ start }));
  };
  const fetch_ = async (path: string, init?: RequestInit) => {
    asked.push(path);
    if (asked.length === 1) return list('a')();
    if (asked.length === 3) stop.abort();
    setTimeout(() => alarms.at(-1)!.ring());
    return dead(init!.signal!);
  };
  const alarm = (ms: number, ring: () => void) => {
    const one = { ms, ring, off: false };
    alarms.push(one);
    return () => {
      one.off = true;
    };
  };
  const tell = ({ state, problem }: Live<Item>) => lives.push(`${state}${problem}`);
  const pause = async () => {};
  const api = new Api('token', fetch_);
  await follow<Item>(api, '/things', { tell, signal: stop.signal, pause, alarm });
  assert.deepEqual(lives, ['live', 'live', 'reconnectingThe connection is dead.']);
  assert.match(asked[2]!, /watch=1.*resourceVersion=10$/);
  assert.deepEqual(
    alarms.map(({ ms, off }) => [ms, off]),
    [
      [80_000, true],
      [310_000, true],
      [310_000, true],
    ],
  );
});

test('lines are found wherever the stream is cut', async () => {
  const text = '{"a":"ü"}\n{"a":2}\n\n{"a":3}\n{"a":4';
  const bytes = new TextEncoder().encode(text);
  const cut = new ReadableStream({
    start(controller) {
      for (let at = 0; at < bytes.length; at += 3) controller.enqueue(bytes.slice(at, at + 3));
      controller.close();
    },
  });
  const found: unknown[] = [];
  for await (const batch of batches<{ a: unknown }>(new Response(cut)))
    found.push(...batch.map(({ a }) => a));
  assert.deepEqual(found, ['ü', 2, 3]);
  assert.deepEqual(
    [...apply(new Map([['a', item('a')]]), [{ type: 'MODIFIED', object: item('a', '2') }]).values()],
    [item('a', '2')],
  );
});

test('an error has the words of the API server, and the token is in a header alone', async () => {
  const seen: RequestInit[] = [];
  const answer = (code: number, body: string) => async (path: string, init?: RequestInit) => {
    assert.ok(!path.includes('secret'));
    seen.push(init!);
    return new Response(body, { status: code });
  };
  await assert.rejects(
    new Api('secret', answer(403, '{"message": "not you", "reason": "Forbidden"}')).get('/x'),
    new ApiError(403, 'Forbidden', 'not you'),
  );
  await assert.rejects(new Api('secret', answer(502, '<html>')).get('/x'), /<html>/);
  await assert.rejects(new Api('secret', async () => gone()).get('/x'), /is it still running\?/);
  await assert.rejects(begin('c', answer(401, '{"message": "used"}')), /used/);
  assert.equal((seen[0]!.headers as Record<string, string>)['x-fleetprof-console'], 'secret');
});

/** What is told of one object, which is done at version 3. */
async function reading(answers: (() => Response)[], stop = new AbortController()) {
  const reads: string[] = [];
  let pauses = 0;
  const fetch_ = async () => answers.shift()!();
  const tell = ({ object, problem = '' }: Read<Item>) =>
    reads.push(`${object?.metadata.resourceVersion} ${problem}`.trim());
  const pause = async (ms: number) => {
    assert.equal(ms, 3000);
    pauses++;
  };
  const done = ({ metadata }: Item) => metadata.resourceVersion === '3';
  await reread<Item>(new Api('token', fetch_), '/thing', { done, tell, pause, signal: stop.signal });
  return { reads, pauses, left: answers.length };
}

test('an object that is not followed is read again until it is done', async () => {
  const version = (at: string) => () => Response.json(item('a', at));
  const { reads, pauses, left } = await reading([
    version('1'),
    refused(503),
    version('2'),
    version('3'),
    gone,
  ]);
  assert.deepEqual(reads, ['1', '1 no', '2', '3']);
  assert.deepEqual([pauses, left], [3, 1]);
  assert.deepEqual(
    (await reading([refused(404), gone])).reads,
    ['undefined no'],
    'what is not there stays so',
  );
});

test('an answer that comes after the page has gone on is dropped', async () => {
  const stop = new AbortController();
  const late = () => {
    stop.abort();
    return Response.json(item('a', '1'));
  };
  assert.deepEqual((await reading([late, gone], stop)).reads, []);
});

test('what the API server says once more is told apart from what passes', () => {
  const of = (code: number) => refuses(new ApiError(code, '', ''));
  assert.deepEqual([400, 403, 404, 409, 422].filter(of), [400, 403, 404, 409, 422]);
  assert.deepEqual([0, 401, 408, 429, 500, 502, 503, 504].filter(of), []);
  assert.equal(refuses(new TypeError('x')), false);
});

test('the clock of the API server is asked for with each answer', async () => {
  const ahead = [3_600_000, 0, -3_600_000, 500];
  const answers = [200, 200, 200, 502].map((status, at) => {
    const date = new Date(Date.now() + ahead[at]!).toUTCString();
    return Response.json({}, { status, headers: { date } });
  });
  const api = new Api('token', async () => answers.shift()!);
  const found: number[] = [];
  for (let at = 0; at < ahead.length; at++) {
    await api.get('/x').catch(() => {});
    found.push(Math.round(api.ahead / 60_000));
  }
  assert.deepEqual(found, [60, 0, -60, -60], "the console's own refusals have another clock");
});

test('what was known stays until a list is read again', () => {
  const known = {
    ...loading<Item>(),
    state: 'live' as const,
    known: true,
    items: new Map([['a', item('a')]]),
  };
  const ill = { ...loading<Item>(), state: 'reconnecting' as const, problem: 'ill', code: 503 };
  assert.deepEqual(still(known, ill), { ...ill, known: true, items: known.items });
  assert.deepEqual(still(loading(), ill), ill, 'nothing was known');
  const empty = { ...known, items: new Map() };
  assert.equal(still(known, empty), empty, 'none are left');
});
