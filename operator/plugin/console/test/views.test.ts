// What filters, "my code", the call tree and the figures of trust make of a profile.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, type Tree } from '../src/flame/columns.ts';
import { filtered, formatFilters, parseFilters } from '../src/flame/filter.ts';
import { layout } from '../src/flame/layout.ts';
import { foreign, ownRuntime } from '../src/flame/mine.ts';
import { atFirst, lines, press, showing, toggled } from '../src/flame/outline.ts';
import { figures } from '../src/flame/trust.ts';
import { asked, left, parts } from '../src/flame/views.ts';
import { large, tree } from './trees.ts';

const shape = (of: Tree) =>
  [...of.depth].map(
    (depth, row) => `${'.'.repeat(depth)}${of.names[of.name[row]!]} ${of.total[row]} ${of.self[row]}`,
  );
const CALLS = tree([
  'total 0',
  '.main 10',
  '..web 5',
  '...json 20',
  '...db 30 pruned 1',
  '..gc 8',
  '...json 2',
]);
const by = (text: string) => shape(filtered(CALLS, parseFilters(text).filters));

test('filter words are read in any case, short or long, and say what is wrong', () => {
  assert.deepEqual(parseFilters('SS: a b  hf:c|d Show From Frame: e'), {
    filters: [
      { word: 'SS', text: 'a b' },
      { word: 'HF', text: 'c|d' },
      { word: 'SFF', text: 'e' },
    ],
  });
  assert.deepEqual(parseFilters(''), { filters: [] });
  assert.match(parseFilters('json').problem!, /^"json" has no word before it/);
  assert.match(parseFilters('SS: a HF:').problem!, /^HF: needs a function/);
  assert.match(parseFilters('SS: f(').problem!, /Not a regular expression/);
  const { filters } = parseFilters('P: std::vec SS: x');
  assert.deepEqual(parseFilters(formatFilters(filters)).filters, filters, 'std:: is not a filter word');
  assert.equal(filters[0]!.text, 'std::vec');
});

test('stacks are shown and hidden by their functions', () => {
  assert.deepEqual(by('SS: json'), [
    'total 22 0',
    '.main 22 0',
    '..web 20 0',
    '...json 20 20',
    '..gc 2 0',
    '...json 2 2',
  ]);
  assert.deepEqual(by('HS: web'), ['total 20 0', '.main 20 10', '..gc 10 8', '...json 2 2']);
  assert.deepEqual(by('SS: json HS: gc').at(-1), '...json 20 20');
  assert.deepEqual(by('SS: total'), ['total 0 0'], 'the root is not a function');
});

test('frames are taken out, or begin the stacks', () => {
  assert.deepEqual(by('HF: web'), [
    'total 76 0',
    '.main 76 15',
    '..db 31 30',
    '..json 20 20',
    '..gc 10 8',
    '...json 2 2',
  ]);
  assert.deepEqual(by('SFF: json'), ['total 22 0', '.json 22 22']);
  assert.deepEqual(by('SFF: web|gc').slice(0, 3), ['total 66 0', '.web 56 5', '..db 31 30']);
  assert.deepEqual(by('HF: .'), ['total 76 75']);
});

test('whatever is filtered, what is shown adds up, and hiding frames loses nothing', () => {
  const big = decode(large(20_000));
  for (const text of [
    'SS: method1',
    'HS: Type9',
    'SFF: orders',
    'HF: json',
    'HF: orders SS: method7',
    'P: json',
  ]) {
    const out = filtered(big, parseFilters(text).filters);
    const sum = out.self.reduce((all, own) => all + own, 0) + out.pruned.reduce((all, own) => all + own, 0);
    assert.equal(out.total[0], sum, text);
    if (/^(HF|P): \w+$/.test(text)) assert.equal(sum, big.total[0], text);
    else assert.ok(sum > 0 && sum < big.total[0]!, text);
    assert.ok(
      [...out.parent].every((parent, row) => parent < row),
      text,
    );
  }
});

test('own code is told apart by runtime', () => {
  const cases: [string, string, string, boolean][] = [
    ['Python 3.11', 'post_order', '/app/shop/orders.py', true],
    ['Python 3.11', 'loads', '/usr/lib/python3.11/json/__init__.py', false],
    ['Python 3.11', 'get', '/venv/lib/python3.12/site-packages/requests/api.py', false],
    ['Python 3.11', '_find_and_load', '<frozen importlib._bootstrap>', false],
    ['Node.js', 'handle', '/app/server.js', true],
    ['Node.js', 'processTimers', 'node:internal/timers', false],
    ['Node.js', 'next', '/app/node_modules/express/lib/router.js', false],
    ['JVM', 'shop.Orders.post', 'Orders.java', true],
    ['JVM', 'java.util.HashMap.put', 'HashMap.java', false],
    ['JVM', 'javafoo.Orders.post', 'Orders.java', true],
    ['JVM', 'org.springframework.web.Filter.run', 'Filter.java', false],
    ['.NET', 'Shop.Orders.Post', '', true],
    ['.NET', 'System.Threading.Monitor.Wait', '', false],
    ['Ruby', 'post', '/app/orders.rb', true],
    ['Ruby', 'call', '/usr/lib/ruby/gems/3.1.0/gems/puma-6/lib/puma/server.rb', false],
    ['Ruby', 'pop', '<internal:thread_sync>', false],
    ['PHP 8.3', 'Shop\\Orders::post', '/app/src/Orders.php', true],
    ['PHP 8.3', 'strlen', '', false],
    ['PHP 8.3', 'Symfony\\Kernel::handle', '/app/vendor/symfony/Kernel.php', false],
    ['Erlang', 'orders:post/2', '', true],
    ['Erlang', 'gen_server:loop/7', '', false],
    ['Go 1.26', 'main.postOrder', '/src/main.go', true],
    ['Go 1.26', 'shop/orders.(*Store).Post', '/src/orders/store.go', true],
    ['Go 1.26', 'net/http.(*conn).serve', '/usr/local/go/src/net/http/server.go', false],
    ['Go 1.26', 'runtime.mallocgc', '', false],
    ['Go 1.26', 'github.com/lib/pq.Open', '/go/pkg/mod/github.com/lib/pq@v1.10.0/conn.go', false],
    ['Go 1.26', 'github.com/me/shop.Open', '/src/shop.go', true],
    ['Native', 'shop::post', 'src/main.rs', true],
    ['Native', 'core::ops::function::FnOnce::call_once', '', false],
    ['Native', 'serde_json::from_str', '/root/.cargo/registry/src/serde_json-1/src/lib.rs', false],
    ['Native', '[libc.so.6]', '', false],
    ['Unknown', 'anything', '', true],
    // Names that only begin like those of others.
    ['Go 1.26', 'golibrary.main', '/src/golibrary/main.go', true],
    ['Go 1.26', 'logistics.Ship', '/src/logistics/ship.go', true],
    ['Go 1.26', 'main.run', '/home/me/shop@v2beta/main.go', true],
    ['Go 1.26', 'github.com/lib/pq.Open', 'github.com/lib/pq@v1.10.0/conn.go', false],
    ['Go 1.26', 'runtime_cost.Sum', '/src/cost.go', true],
    ['.NET', 'Systematic.Orders.Post', '', true],
    ['.NET', 'InteropShop.Orders.Post', '', true],
    ['.NET', 'Interop.Sys.Read', '', false],
    ['.NET', 'Interop+Sys.Read', '', false],
    ['Erlang', 'Elixir.MapRoute:find/1', 'lib/map_route.ex', true],
    ['Erlang', 'Elixir.Map:fetch/2', '', false],
    ['Erlang', 'Elixir.Task.Supervised:invoke_mfa/2', '', false],
    ['Erlang', 'Elixir.Shop.Orders:post/2', 'lib/shop/orders.ex', true],
    ['Erlang', 'cowboys:ride/0', '', true],
    ['Erlang', 'cowboy_req:reply/4', '', false],
    ['Ruby', 'post', 'lib/shop/orders.rb', true],
    ['Node.js', 'handle', 'lib/server.js', true],
    ['Native', 'poll', '/usr/lib/x86_64-linux-gnu/libc.so.6', false],
    ['Native', 'poll', '/lib64/libc.so.6', false],
  ];
  for (const [runtime, name, file, own] of cases)
    assert.equal(
      foreign({ names: [name], files: [file] }, runtime)[0],
      own ? 0 : 1,
      `${runtime}: ${name} ${file}`,
    );
});

test('words of the C library are whole names, and what begins like one is own code', () => {
  const own = (name: string) => foreign({ names: [name], files: [''] }, 'Native')[0] === 0;
  const mine = [
    'member_list',
    'memo_lookup',
    'memory_ends',
    'free_seats',
    'freeze',
    'clone_order',
    'malloc_stats_of_shop',
    'reallocate',
    '_start_server',
    'start_threads',
    'futexes',
    'syscalls_ends',
    'stdlib::run',
    'coreutils::main',
    'allocator::next',
  ];
  assert.deepEqual(mine.filter(own), mine);
  const theirs = [
    'malloc',
    'free',
    'cfree',
    'memcpy',
    '__memmove_avx_unaligned_erms',
    '__libc_start_main',
    '_int_malloc',
    'clone',
    'clone3',
    '__clone3',
    'pthread_mutex_lock',
    'epoll_wait',
    'syscall',
    'futex',
    'futex_wait',
    '_start',
    'start_thread',
    'std::vector<int>::push_back',
    '<core::iter::Map<I> as Iterator>::next',
  ];
  assert.deepEqual(theirs.filter(own), []);
});

test('own code is known where all targets are of one runtime that has rules', () => {
  const cases: [string[], string | undefined][] = [
    [['Python 3.11', 'Python 3.12'], 'Python'],
    [['Node.js'], 'Node'],
    [['Go 1.26'], 'Go'],
    [['.NET'], '.NET'],
    [['Python 3.11', 'Go 1.26'], undefined],
    [['Python 3.11', 'Unknown'], undefined],
    [['Gopher 1'], undefined],
    [['Unknown'], undefined],
    [[], undefined],
  ];
  for (const [runtimes, wanted] of cases) assert.equal(ownRuntime(runtimes), wanted, runtimes.join());
});

test('the address says which parts are shown', () => {
  const whole = { tree: CALLS, layout: layout(CALLS) };
  const shown = (params: Record<string, string>, compared = false) => {
    const wanted = asked(params, compared, 'Python');
    const here = left(whole, wanted);
    return parts(here, wanted).map(
      (part) => `${part.label}: ${shape(part.tree)[0]} ${part.flipped} ${part.whole}`,
    );
  };
  assert.deepEqual(shown({}), ['Flame graph: total 76 0 false true']);
  assert.deepEqual(shown({ of: 'json' }), [
    'Flame graph of callers: json 22 0 true false',
    'Flame graph of callees: json 22 22 false false',
  ]);
  assert.deepEqual(shown({ f: 'P: web|gc' })[1], 'Flame graph of callees: total 66 0 false false');
  assert.deepEqual(shown({ view: 'inverted' }), ['Flame graph: total 76 0 false false']);
  assert.deepEqual(shown({ f: 'HF: web' }), ['Flame graph: total 76 0 false false']);
  assert.deepEqual(shown({ mine: '1' }), ['Flame graph: total 76 75 false false'], 'no file: none is own');
  assert.deepEqual(
    shown({ of: 'json', f: 'HF: web', view: 'inverted' }, true),
    shown({}),
    'not of a comparison',
  );
  const unknown = shown({ of: 'gone' });
  assert.deepEqual(unknown[0], 'Flame graph of callers: total 0 0 true false');
});

test('the call tree opens along the heaviest way, and moves as trees do', () => {
  const open = atFirst(CALLS);
  const names = (of: ReadonlySet<number>) =>
    lines(CALLS, of).rows.map((row) => CALLS.names[CALLS.name[row]!]);
  assert.deepEqual(names(open), ['total', 'main', 'web', 'json', 'db', 'gc']);
  const to = (row: number, key: string) => press(CALLS, open, row, key)?.row;
  assert.deepEqual([to(0, 'ArrowDown'), to(3, 'ArrowLeft'), to(5, 'ArrowUp'), to(1, 'End')], [1, 2, 4, 5]);
  assert.deepEqual([to(0, 'ArrowUp'), to(3, 'ArrowRight'), to(2, 'ArrowRight')], [0, 3, 3]);
  assert.equal(press(CALLS, open, 0, 'toString'), undefined);
  const opened = press(CALLS, open, 5, 'ArrowRight')!;
  assert.deepEqual([opened.row, opened.open.has(5)], [5, true]);
  assert.ok(!press(CALLS, open, 2, 'ArrowLeft')!.open.has(2));
  assert.ok(press(CALLS, new Set([0, 1]), 2, '*')!.open.has(5));
  assert.deepEqual([...showing(CALLS, new Set(), 6)], [0, 1, 5]);
  assert.equal(showing(CALLS, open, 3), open);
  assert.deepEqual([...toggled(toggled(open, 5), 5)], [...open]);
  const wide = tree(['total 0', ...Array.from({ length: 600 }, (_, at) => `.f${at} 1`)]);
  const all = lines(wide, new Set([0]));
  assert.deepEqual([all.rows.length, all.more], [500, true]);
});

test('the figures say how much of the profile says what ran', () => {
  const odd = tree([
    'total 0',
    '.main 50 pruned 10',
    '.[libc.so.6] 10',
    '.[idle] 5',
    '.[not_sampled] 0',
    '.0x7f01 5',
    '.[truncated] 0',
    '..deep 20',
  ]);
  const names = odd.names.map((name) => name.replace('_', ' '));
  const cut = { ...odd, names, source: { ...odd.source, prunedValue: 10 } };
  const shown = (of: Tree, named?: number) => figures(of, named).map(({ title, text }) => `${title} ${text}`);
  const rest = ['Cut stacks 20.0 %', 'Left out 10.0 %'];
  assert.deepEqual(shown(cut), ['Named functions 85.0 %', ...rest], 'as the tree tells');
  assert.deepEqual(shown(cut, 40), ['Named frames 40 %', ...rest], 'as the status tells');
  assert.deepEqual(shown(cut, 0), ['Named frames 0 %', ...rest], 'none has a name');
  assert.deepEqual(shown(tree(['total 0', '.main 1'])), ['Named functions 100.0 %']);
});
