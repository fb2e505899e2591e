import assert from 'node:assert/strict';
import { test } from 'node:test';
import { callees, callers, named } from '../src/flame/callers.ts';
import { byChange, byPackage, changes, DARK, hash, LIGHT, palette } from '../src/flame/colour.ts';
import type { Tree } from '../src/flame/columns.ts';
import { decode, NotATree, pathTo, rowAt } from '../src/flame/columns.ts';
import { cull, runAt } from '../src/flame/cull.ts';
import { describe, describeRun } from '../src/flame/describe.ts';
import { filtered, parseFilters } from '../src/flame/filter.ts';
import { clean, count, packageOf, percent, shorter, value } from '../src/flame/format.ts';
import { boxAt, layout } from '../src/flame/layout.ts';
import { action, sibling } from '../src/flame/move.ts';
import { Names } from '../src/flame/paint.ts';
import { countIn, matcher, nextOf, search } from '../src/flame/search.ts';
import { functions, sorted } from '../src/flame/table.ts';
import { clamp, depthAt, pan, ROW, reveal, whole, xAt, yOf, zoomAt, zoomTo } from '../src/flame/view.ts';
import { columns, large, SMALL, tree } from './trees.ts';

const SCREEN = { width: 1000, height: 600 };
const compared = () =>
  tree(SMALL, {
    basis: 'perPodSecond',
    noise: [null, false, false, true, false],
    base: {
      total: 50,
      samples: 50,
      podSeconds: 5,
      prunedValue: 0,
      self: [0, 5, 10, 10, 25],
      pruned: [0, 0, 0, 0, 0],
    },
  });

test('totals are what a node used itself, what was pruned below it, and its children', () => {
  const small = tree(['total 0', '.main 10 pruned 5', '..c 60', '..b 20', '...d 10']);
  assert.deepEqual([...small.total], [105, 105, 60, 30, 10]);
  assert.deepEqual([...small.parent], [-1, 0, 1, 1, 3]);
  assert.deepEqual([...small.end], [5, 5, 3, 5, 5]);
  assert.equal(small.deepest, 3);
});

test('what is not a call tree is refused with what is wrong', () => {
  const damaged = (more: object, message: RegExp) =>
    assert.throws(
      () => decode({ ...columns(SMALL), ...more }),
      (error: unknown) => error instanceof NotATree && message.test(error.message),
    );
  assert.throws(() => decode({ kind: 'Status' }), /no column "depth"/);
  assert.throws(() => decode(null), NotATree);
  damaged({ self: [1] }, /column "self" does not have 5 entries/);
  damaged({ files: [] }, /column "files"/);
  damaged({ depth: [0, 1, 3, 1, 1] }, /row 2 has no parent/);
  damaged({ depth: [0, 1, 0, 1, 1] }, /row 2 has no parent/);
  damaged({ name: [0, 1, 2, 99, 1] }, /row 3 has no name/);
  damaged({ base: { ...columns(['total 0']) } }, /column "base.self"/);
});

test('a path leads to its row and back', () => {
  const small = tree(SMALL);
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((row) => pathTo(small, row)),
    ['', '0', '0.0', '0.1', '0.1.0'],
  );
  for (let row = 0; row < 5; row++) assert.equal(rowAt(small, pathTo(small, row)), row);
  assert.equal(rowAt(small, '0.7.1'), 1, 'as far as it leads');
});

test('children lie side by side below their caller, and what was pruned behind them', () => {
  const small = tree(['total 0', '.main 10 pruned 5', '..c 60', '..b 20', '...d 10']);
  const { left, size, prunedLeft, prunedSize, width } = layout(small);
  assert.deepEqual([...left], [0, 0, 0, 60, 60]);
  assert.deepEqual([...size], [105, 105, 60, 30, 10]);
  assert.deepEqual([width, prunedLeft[1], prunedSize[1]], [105, 90, 5]);
});

test('a comparison has boxes as wide as both sides on their common basis', () => {
  const { size } = layout(compared());
  assert.deepEqual([...size], [20, 20, 8, 10, 6]);
});

test('the box under a place is found by its depth and value', () => {
  const shape = layout(tree(SMALL));
  assert.deepEqual(
    [boxAt(shape, 2, 59), boxAt(shape, 2, 60), boxAt(shape, 2, 95), boxAt(shape, 9, 0)],
    [2, 3, -1, -1],
  );
});

test('boxes on the screen are painted, and narrow neighbours are one run that counts them', () => {
  const many = tree(['total 0', '.wide 100000', ...Array.from({ length: 40 }, (_, at) => `.n${at} 1`)]);
  const shape = layout(many);
  const view = whole(shape, SCREEN);
  const painting = cull(many, shape, view);
  assert.deepEqual(
    painting.boxes.map(({ row }) => row),
    [0, 1],
  );
  assert.deepEqual(
    painting.runs.map(({ hides, row }) => [hides, row]),
    [[40, 2]],
  );
  const run = runAt(painting, painting.runs[0]!.x, ROW + 3);
  assert.deepEqual(describeRun(many, run!), ['40 narrow functions', 'Zoom in to see them']);
  const near = clamp(zoomTo(view, shape, many, 2), shape, many.deepest);
  assert.deepEqual(
    cull(many, shape, near).boxes.map(({ row }) => row),
    [0, 2],
  );
});

test('what was pruned has a run of its own in the row of the children', () => {
  const small = tree(['total 0', '.main 10 pruned 90']);
  const { runs } = cull(small, layout(small), whole(layout(small), SCREEN));
  assert.deepEqual(runs, [{ x: 0, y: 2 * ROW, width: 900, hides: 0, row: 1 }]);
  assert.match(describeRun(small, runs[0]!)[0]!, /Left out below main/);
});

test('rows above and below the screen are not painted, in both directions', () => {
  const deep = tree(Array.from({ length: 200 }, (_, at) => `${'.'.repeat(at)}f${at} 1`));
  const shape = layout(deep);
  for (const flipped of [false, true]) {
    const view = { ...whole(shape, { width: 1000, height: 10 * ROW }, flipped), top: 50 * ROW };
    const rows = cull(deep, shape, view).boxes.map(({ row }) => row);
    assert.ok(rows.length <= 12, `${rows.length}`);
    const middle = flipped ? 200 - 50 : 50;
    assert.ok(
      rows.some((row) => Math.abs(row - middle) <= 1),
      `${rows}`,
    );
  }
});

test('zooming keeps the value under the pointer, and panning stays within the tree', () => {
  const shape = layout(tree(SMALL));
  const view = zoomAt(whole(shape, SCREEN), 250, 3);
  assert.ok(Math.abs(xAt(view, 250) - 25) < 1e-9);
  const far = clamp(pan(view, 1e6, 1e6), shape, 3);
  assert.deepEqual([far.to, far.top], [shape.width, 0]);
  assert.equal(clamp(zoomAt(view, 0, -100), shape, 3).to, shape.width);
});

test('a row is brought onto the screen with as little movement as possible', () => {
  const deep = tree(Array.from({ length: 100 }, (_, at) => `${'.'.repeat(at)}f${at} 1`));
  const shape = layout(deep);
  const view = whole(shape, { width: 1000, height: 10 * ROW });
  assert.equal(reveal(view, shape, deep, 3).top, 0);
  assert.equal(reveal(view, shape, deep, 50).top, 43 * ROW);
});

test('with the root at the bottom, a small tree stands on the lower edge', () => {
  const small = tree(SMALL);
  const flipped = whole(layout(small), SCREEN, true);
  assert.equal(yOf(flipped, 0, small.deepest), SCREEN.height - ROW);
  assert.equal(depthAt(flipped, SCREEN.height - 1, small.deepest), 0);
  assert.equal(depthAt(flipped, SCREEN.height - 1 - ROW, small.deepest), 1);
  assert.equal(yOf(whole(layout(small), SCREEN), 0, small.deepest), 0);
});

test('a search counts nested matches once, and moves around the ends', () => {
  const nested = tree(['total 0', '.find 10', '..find_more 30', '.other 40', '..find 20']);
  const found = search(nested, layout(nested), 'FIND')!;
  assert.deepEqual([found.rows, found.share], [[1, 4], 0.6]);
  const next = (row: number, step: 1 | -1) => nextOf([found], { part: 0, row }, step)?.row;
  assert.deepEqual([next(0, 1), next(1, 1), next(4, 1), next(4, -1), next(1, -1)], [1, 4, 1, 1, 4]);
  assert.equal(countIn([found], { part: 0, row: 4 }).count, '2 of 2, 60.0 % of the total');
  const both = [found, found];
  assert.deepEqual(nextOf(both, { part: 0, row: 4 }, 1), { part: 1, row: 1 });
  assert.deepEqual(nextOf(both, { part: 0, row: 1 }, -1), { part: 1, row: 4 });
  assert.equal(countIn(both, { part: 0, row: 0 }).count, '2 places among callers, 2 places among callees');
  assert.deepEqual(countIn([undefined], { part: 0, row: 0 }), { count: '', any: false, problem: undefined });
  assert.equal(search(nested, layout(nested), ''), undefined);
  const nowhere = search(nested, layout(nested), 'nowhere');
  assert.equal(nextOf([nowhere], { part: 0, row: 0 }, 1), undefined);
});

test('a search that is not a pattern is taken literally, and says so', () => {
  assert.ok(matcher('^a.c$').test('ABC'));
  const { test: matches, problem } = matcher('operator[](');
  assert.ok(matches('Operator[](int)') && !matches('operator'));
  assert.match(problem!, /^Not a regular expression \(.+\): searched as plain text\.$/);
});

test('a function that calls itself counts once in its total', () => {
  const nested = tree(['total 0', '.a 1', '..b 2', '...a 4', '.b 8']);
  const rows = functions(nested).map(({ name, self, total }) => [nested.names[name], self, total]);
  assert.deepEqual(rows, [
    ['a', 5, 7],
    ['b', 10, 14],
  ]);
});

test('a table is sorted by any column, equal rows by name', () => {
  const nested = tree(['total 0', '.b 2', '.a 2', '.c 1']);
  const names = (key: 'self' | 'name', descending: boolean) =>
    sorted(nested, functions(nested), key, descending, { after: 1, base: 0 }).map(
      ({ name }) => nested.names[name],
    );
  assert.deepEqual(names('self', true), ['a', 'b', 'c']);
  assert.deepEqual(names('self', false), ['c', 'a', 'b']);
  assert.deepEqual(names('name', true), ['c', 'b', 'a']);
});

test('values have a unit and names no hidden characters', () => {
  assert.deepEqual(
    [value(1.5e9, 'nanoseconds'), value(7.2e12, 'nanoseconds'), value(2048, 'bytes'), value(12345, 'count')],
    ['1.50 s', '2.00 h', '2.00 KiB', '12\u2009345'],
  );
  assert.deepEqual(
    [percent(0.5), percent(0.0123), percent(0.00001), percent(0)],
    ['50.0 %', '1.23 %', '< 0.01 %', '0.00 %'],
  );
  assert.deepEqual([count(999), count(1234567)], ['999', '1\u2009234\u2009567']);
  assert.equal(clean('a\u202eb\u0000c'), 'a\ufffdb\ufffdc');
  assert.equal(clean('</script><img onerror=x>'), '</script><img onerror=x>');
});

test('packages are known by the way that each language writes names', () => {
  const cases: [string, string, string][] = [
    ['github.com/a/b.(*T).Do', '', 'github.com/a/b'],
    ['runtime.mallocgc', '', 'runtime'],
    ['java.util.HashMap.put', '', 'java.util'],
    ['std::vector<int>::push_back', '', 'std'],
    ['<alloc::vec::Vec<T> as Drop>::drop', '', 'alloc'],
    ['find_issuer', '/app/shop/cards.py', 'cards.py'],
    ['find_issuer', 'cards.py', 'cards.py'],
    ['main', '', 'main'],
  ];
  for (const [name, file, wanted] of cases) assert.equal(packageOf(name, file), wanted, name);
  assert.deepEqual(shorter('github.com/a/b.(*T).Do'), ['a.b', 'b']);
});

test('colours are the same every time, and a package has one', () => {
  assert.equal(hash('a'), 0xe40c292c, 'FNV-1a, 32 bits');
  const one = tree(['total 0', '.shop.A.a 1', '.shop.B.b 1']);
  const colours = byPackage(one);
  assert.equal(colours[1], colours[2]);
  for (const theme of [LIGHT, DARK]) assert.ok(palette(theme).length > Math.max(...colours));
});

test('changes are blue for less, orange for more, and grey where they may be chance', () => {
  const colours = byChange(compared());
  const last = changes(LIGHT).length - 1;
  assert.equal(colours[3], last);
  assert.equal(colours[1], (last - 1) / 2, 'the same on both sides');
  assert.ok(colours[2]! > (last - 1) / 2 && colours[4]! < (last - 1) / 2);
});

test('a description names the function, its values, and what a comparison makes of them', () => {
  const small = tree(SMALL);
  assert.deepEqual(describe(small, 3, functions(small)[2]), [
    'b',
    '30 ns (30.0 %) here, itself 20 ns (20.0 %)',
  ]);
  assert.deepEqual(describe(compared(), 3, undefined), [
    'b',
    '7 ns per pod and second before, 3 ns per pod and second now: -4 ns per pod and second, may be chance',
  ]);
});

test('arrows move between callers, callees and siblings, and stop at the ends', () => {
  const small = tree(SMALL);
  const to = (row: number, key: string) => {
    const found = action(small, row, key);
    return found?.kind === 'select' ? found.row : undefined;
  };
  assert.deepEqual(
    [to(0, 'ArrowUp'), to(1, 'ArrowDown'), to(2, 'ArrowRight'), to(3, 'ArrowLeft')],
    [0, 2, 3, 2],
  );
  assert.deepEqual([to(4, 'ArrowDown'), sibling(small, 0, 1), sibling(small, 3, 1)], [4, 0, 3]);
  assert.equal(action(small, 0, 'toString'), undefined);
  assert.deepEqual(action(small, 0, 'N'), { kind: 'match', step: -1 });
});

test('upside down, functions come before their callers, and nothing is lost', () => {
  const calls = tree(['total 0', '.main 10 pruned 5', '..c 60', '...d 4', '..b 20', '...d 16']);
  const shape = (of: Tree) =>
    [...of.depth].map(
      (depth, row) => `${'.'.repeat(depth)}${of.names[of.name[row]!]} ${of.total[row]} ${of.self[row]}`,
    );
  const all = callers(calls);
  assert.deepEqual(shape(all), [
    'total 115 0',
    '.c 60 0',
    '..main 60 60',
    '.d 20 0',
    '..b 16 0',
    '...main 16 16',
    '..c 4 0',
    '...main 4 4',
    '.b 20 0',
    '..main 20 20',
    '.main 10 10',
  ]);
  assert.deepEqual([all.pruned[0], [...all.parent].slice(0, 5), all.end[1]], [5, [-1, 0, 1, 0, 3], 3]);
  const of = (tree_: Tree, ...names: string[]) =>
    named(tree_, ...names.map((name) => tree_.names.indexOf(name)));
  assert.deepEqual(shape(callers(calls, of(calls, 'd'))), [
    'd 20 0',
    '.b 16 0',
    '..main 16 16',
    '.c 4 0',
    '..main 4 4',
  ]);
  assert.deepEqual(shape(callers(calls, of(calls, 'd', 'c'))), [
    'total 80 0',
    '.c 64 0',
    '..main 64 64',
    '.d 16 0',
    '..b 16 0',
    '...main 16 16',
  ]);
  const again = tree(['total 0', '.a 1', '..a 2', '...b 4']);
  assert.deepEqual(shape(callers(again, of(again, 'a'))), ['a 7 7']);
  assert.deepEqual(shape(callees(again, of(again, 'a'))), ['a 7 1', '.a 6 2', '..b 4 4']);
  assert.deepEqual(shape(callees(calls, of(calls, 'main', 'c'))).slice(0, 2), [
    'total 115 0',
    '.main 115 10',
  ]);
  assert.equal(callees(calls, of(calls, 'main')).pruned[0], 5, 'what was left out is told');
});

test('names are shortened until they fit', () => {
  const names = new Names(tree(['total 0', '.java.util.HashMap.put 1']), (text) => text.length * 6);
  assert.equal(names.fit(1, 200), 'java.util.HashMap.put');
  assert.equal(names.fit(1, 70), 'HashMap.put');
  assert.equal(names.fit(1, 20), 'put');
  assert.equal(names.fit(1, 17), '');
});

test('100 000 nodes are laid out, culled and searched in the time of a few frames', () => {
  const answer = large(100_000);
  // CPU time, since other work runs on the machine; the mean of several, since the kernel counts it coarsely.
  const took = (work: () => unknown) => {
    for (let warm = 0; warm < 3; warm++) work();
    const began = process.cpuUsage();
    for (let run = 0; run < 10; run++) work();
    const { user, system } = process.cpuUsage(began);
    return (user + system) / 10_000;
  };
  const big = decode(answer);
  const shape = layout(big);
  const view = whole(shape, { width: 1600, height: 900 });
  const times = {
    decode: took(() => decode(answer)),
    layout: took(() => layout(big)),
    cull: took(() => cull(big, shape, view)),
    search: took(() => search(big, shape, 'method1.*9$')),
    table: took(() => functions(big)),
    callers: took(() => callers(big)),
    filter: took(() => filtered(big, parseFilters('HF: method1 SS: orders').filters)),
  };
  console.log('100 000 nodes, ms of CPU:', JSON.stringify(times));
  assert.ok(times.decode + times.layout < 150 && times.cull < 25 && times.search < 40, JSON.stringify(times));
});
