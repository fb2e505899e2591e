// Does the pane of a profile do its job: graph, search, table, comparison, files, and 100 000 nodes?
import { readFileSync } from 'node:fs';
import { HOSTILE, session } from './recorded.ts';
import { expect, open, type Page, test } from './rig.ts';

const TWO = '#/profile/shop/orders-two';
const graph = (page: Page) => page.getByRole('application', { name: /Flame graph/ });
const selected = (page: Page) => page.locator('#selected');

test('a search finds, counts and shows one match after the other', async ({ page, link }) => {
  await open(page, link, TWO);
  await expect(graph(page)).toBeVisible();
  await page.getByRole('searchbox', { name: 'Search' }).fill('find|json');
  await expect(page.locator('output')).toHaveText('2 places, 80.0 % of the total');
  await page.getByRole('searchbox', { name: 'Search' }).press('Enter');
  await expect(selected(page)).toContainText('find_issuer');
  await expect(page.locator('output')).toContainText('1 of 2');
  await page.getByRole('button', { name: 'Next match' }).click();
  await expect(selected(page)).toContainText('json');
  await page.getByRole('searchbox', { name: 'Search' }).fill('json(');
  await expect(page.getByText('searched as plain text.')).toBeVisible();
  expect(new URL(page.url()).hash).toContain('q=json');
});

test('the graph is walked by the keyboard alone', async ({ page, link }) => {
  await open(page, link, TWO);
  await expect(graph(page)).toBeVisible();
  for (let tabs = 0; tabs < 60; tabs++) {
    await page.keyboard.press('Tab');
    if (await graph(page).evaluate((element) => element === document.activeElement)) break;
  }
  await expect(graph(page)).toBeFocused();
  for (const key of ['ArrowDown', 'ArrowDown', 'ArrowDown']) await page.keyboard.press(key);
  await expect(selected(page)).toContainText('find_issuer 700 ns (70.0 %) here, itself 700 ns (70.0 %)');
  await page.keyboard.press('ArrowRight');
  await expect(selected(page)).toContainText('json');
  await page.keyboard.press('ArrowUp');
  await expect(selected(page)).toContainText('post_order');
  await page.keyboard.press('ArrowRight');
  await expect(selected(page)).toContainText(HOSTILE);
  await page.keyboard.press('Enter');
  await page.keyboard.press('Escape');
  await expect(selected(page)).toContainText('total');
  await page.keyboard.press('/');
  await expect(page.getByRole('searchbox', { name: 'Search' })).toBeFocused();
});

test('the mouse zooms in and shows what lies under it', async ({ page, link }) => {
  await open(page, link, TWO);
  const box = (await graph(page).boundingBox())!;
  // The fourth row begins with find_issuer, 70 % of the width.
  await page.mouse.move(box.x + 100, box.y + 3 * 18 + 9);
  await expect(page.locator('.hover')).toContainText('find_issuer');
  await page.mouse.move(box.x + box.width * 0.9, box.y + 2 * 18 + 9);
  await expect(page.locator('.hover')).toContainText(HOSTILE);
  await page.mouse.click(box.x + 100, box.y + 3 * 18 + 9);
  await expect(selected(page)).toContainText('find_issuer');
  // Now it is as wide as the graph.
  await page.mouse.move(box.x + box.width - 20, box.y + 3 * 18 + 9);
  await expect(page.locator('.hover')).toContainText('find_issuer');
});

test('the table holds what the graph shows, and leads back to it', async ({ page, link }) => {
  await open(page, link, TWO);
  await page.getByRole('button', { name: 'Table' }).click();
  const table = page.getByRole('table', { name: 'Functions' });
  await expect(table.getByRole('row').nth(1)).toContainText('find_issuer');
  await expect(table.getByRole('row').nth(1)).toContainText('700 ns (70.0 %)');
  await expect(table.getByRole('button', { name: HOSTILE, exact: true })).toBeVisible();
  await page.getByRole('searchbox', { name: 'Search' }).fill('gc');
  await expect(table.getByRole('row')).toHaveCount(2);
  await table.getByRole('button', { name: 'gc', exact: true }).click();
  await expect(graph(page)).toBeVisible();
  await expect(page.locator('output')).toContainText('1 place, 5.00 % of the total');
  await page.goBack();
  await expect(table).toBeVisible();
});

test('the tree is turned upside down, and a function shown from both sides', async ({ page, link }) => {
  await open(page, link, TWO);
  await page.getByRole('button', { name: 'Inverted' }).click();
  await graph(page).focus();
  await page.keyboard.press('ArrowDown');
  await expect(selected(page)).toContainText('find_issuer 700 ns');
  await page.keyboard.press('ArrowDown');
  await expect(selected(page)).toContainText('post_order 700 ns');
  await selected(page).getByRole('button', { name: 'Callers and callees' }).click();
  await expect(page.getByText('Callers of post_order above, what it calls below')).toBeVisible();
  await expect(graph(page)).toHaveCount(2);
  await expect(selected(page)).toContainText('post_order 820 ns (82.0 %)');
  await page.getByRole('application', { name: 'Flame graph of callees' }).focus();
  await page.keyboard.press('ArrowDown');
  await expect(selected(page)).toContainText('find_issuer 700 ns');
  await page.getByRole('application', { name: 'Flame graph of callers' }).focus();
  await page.keyboard.press('ArrowDown');
  await expect(selected(page)).toContainText('main 820 ns');
  await page.getByRole('searchbox', { name: 'Search' }).fill('main|json');
  await expect(page.locator('output')).toHaveText('1 place among callers, 1 place among callees');
  await page.getByRole('searchbox', { name: 'Search' }).press('Enter');
  await expect(selected(page)).toContainText('json');
  await page.getByRole('button', { name: 'Show all functions' }).click();
  await expect(graph(page)).toHaveCount(1);
});

test('filter words leave a part of the profile, and say how much', async ({ page, link }) => {
  await open(page, link, TWO);
  const filter = page.getByRole('searchbox', { name: 'Filter' });
  await filter.pressSequentially('SS: json HF: post_order');
  await expect(page.getByText('Filtered: 10.0 % of the profile is shown.')).toBeVisible();
  await expect(filter, 'the box keeps the focus while it is typed in').toBeFocused();
  await graph(page).focus();
  for (const key of ['ArrowDown', 'ArrowDown']) await page.keyboard.press(key);
  await expect(selected(page)).toContainText('json 100 ns (10.0 %)');
  await filter.fill('P: find|json');
  await expect(page.getByText('Callers of functions like find|json above')).toBeVisible();
  await expect(graph(page)).toHaveCount(2);
  await filter.fill('json');
  await expect(page.getByText('"json" has no word before it')).toBeVisible();
  await filter.fill('SFF: nowhere');
  await expect(page.getByText('0.00 % of the profile is shown, and none of its functions.')).toBeVisible();
  await page.evaluate(() => location.assign('#/profile/shop/orders-two?base=orders-old'));
  await expect(filter).toBeDisabled();
  await expect(page.getByRole('button', { name: 'My code' })).toHaveAccessibleDescription(
    'Comparisons cannot be filtered: what may be chance is known for whole profiles only.',
  );
});

test('my code is what is left without the runtime and its libraries', async ({ page, link, fake }) => {
  fake.put(session('orders-files'));
  await open(page, link, '#/profile/shop/orders-files?view=table');
  const table = page.getByRole('table', { name: 'Functions' });
  await expect(table.getByRole('button', { name: 'json', exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'My code' }).click();
  await expect(table.getByRole('button', { name: 'json', exact: true })).toHaveCount(0);
  await expect(table.getByRole('row', { name: /post_order/ })).toContainText('120 ns (12.0 %)');
  expect(new URL(page.url()).hash).toContain('mine=1');
});

test('the call tree is opened and searched by the keyboard', async ({ page, link }) => {
  await open(page, link, TWO);
  await page.getByRole('button', { name: 'Call tree' }).click();
  const tree = page.getByRole('tree');
  await expect(tree.getByRole('treeitem')).toHaveCount(7);
  await expect(tree.getByRole('treeitem', { name: '70.0 % 70.0 % find_issuer' })).toBeVisible();
  await tree.focus();
  for (const key of ['ArrowDown', 'ArrowDown', 'ArrowLeft']) await page.keyboard.press(key);
  await expect(tree.getByRole('treeitem')).toHaveCount(5);
  await expect(tree.getByRole('treeitem', { name: /post_order/ })).toHaveAttribute('aria-expanded', 'false');
  await page.keyboard.press('/');
  await page.keyboard.type('json');
  await page.keyboard.press('Enter');
  await expect(selected(page), 'a match is shown, even where its caller was closed').toContainText(
    'json 100 ns',
  );
  await expect(tree.getByRole('treeitem', { selected: true })).toContainText('json');
});

test('how far the profile can be believed is beside it', async ({ page, link }) => {
  await open(page, link, '#/profile/shop/orders-old');
  await expect(page.getByText('Named functions 100.0 %')).toBeVisible();
  await expect(page.getByText('Left out 75.0 %')).toBeVisible();
});

test('throttling and names are shown as the status has them, also none', async ({ page, link, fake }) => {
  await open(page, link, '#/profile/shop/orders-old');
  const facts = page.locator('.facts');
  const figures = page.locator('.figures');
  for (const [throttledPercent, named] of [
    [37, 80],
    [0, 0],
  ] as const) {
    const old = fake.sessions.get('orders-old')!;
    const target = { ...old.status!.targets![0]!, throttledPercent, symbols: { named } };
    fake.put({ ...old, status: { ...old.status!, targets: [target] } });
    await expect(facts).toContainText(`CPU throttled${throttledPercent} %`);
    await expect(figures).toContainText(`Named frames ${named} %`);
    const said = page.getByText('throttled in 37 % of its CPU periods');
    await expect(said).toHaveCount(throttledPercent === 0 ? 0 : 1);
  }
  await page.evaluate(() => location.assign('#/profile/shop/orders-two'));
  await expect(figures, 'of an older operator').toContainText('Named functions 100.0 %');
  await expect(facts).not.toContainText('throttled');
});

test('two sessions are compared, with what may be chance marked', async ({ page, link, fake }) => {
  await open(page, link, TWO);
  await page.getByRole('combobox', { name: 'Compare with' }).selectOption('orders-old');
  await expect(page.getByText('Compares values per pod and second.')).toBeVisible();
  expect(fake.asked.some((asked) => asked.includes('/diff?type=cpu&base=orders-old&format=flamegraph'))).toBe(
    true,
  );
  await page.getByRole('button', { name: 'Table' }).click();
  await expect(page.getByRole('table', { name: 'Functions' }).getByRole('row').nth(1)).toContainText(
    'find_issuer',
  );
  await expect(
    page.getByText(
      /^kubectl fleetprof diff orders-two -n shop --base orders-old --kubeconfig \S+ --context fake$/,
    ),
  ).toBeVisible();
});

test('kinds are tabs, and what was left out is loaded when it is asked for', async ({ page, link, fake }) => {
  await open(page, link, TWO);
  await page.getByRole('button', { name: 'wall' }).click();
  await expect.poll(() => fake.asked.some((asked) => asked.includes('/flamegraph?type=wall'))).toBe(true);
  await page.evaluate(() => location.assign('#/profile/shop/orders-old'));
  await graph(page).focus();
  await page.keyboard.press('ArrowDown');
  await page.getByRole('button', { name: 'Load what was left out below it' }).click();
  await expect.poll(() => fake.asked.some((asked) => asked.includes('root=0&'))).toBe(true);
});

test('a double click loads what is hatched, though its first click zooms', async ({ page, link, fake }) => {
  fake.put(session('orders-cut'));
  await open(page, link, '#/profile/shop/orders-cut');
  await expect(graph(page)).toBeVisible();
  await page.waitForFunction(() => performance.getEntriesByName('painted').length > 0);
  const { x, y, width } = (await graph(page).boundingBox())!;
  // Rows are 18 px high; the hatched part lies in the third one, below `handle`.
  await page.mouse.move(x + width * 0.945, y + 45);
  const cut = page.locator('.hover', { hasText: 'left out' });
  await expect(cut).toBeVisible();
  const before = await page.evaluate(() => performance.getEntriesByName('painted').length);
  await page.mouse.down();
  await page.mouse.up();
  await expect(selected(page)).toContainText('handle');
  await page.waitForFunction((old) => performance.getEntriesByName('painted').length > old, before);
  await page.mouse.down({ clickCount: 2 });
  await page.mouse.up({ clickCount: 2 });
  await expect.poll(() => fake.asked.some((asked) => /flamegraph\?.*root=1&/.test(asked))).toBe(true);
});

for (const deviceScaleFactor of [0.8, 1, 2.5]) {
  test.describe(`zoomed to ${deviceScaleFactor}`, () => {
    test.use({ deviceScaleFactor });
    test('the whole canvas is painted', async ({ page, link }) => {
      await open(page, link, TWO);
      await page.waitForFunction(() => performance.getEntriesByName('painted').length > 0);
      const corner = await graph(page).evaluate((canvas: HTMLCanvasElement) => {
        const pixels = canvas.getContext('2d')!.getImageData(canvas.width - 1, canvas.height - 1, 1, 1);
        return [...pixels.data];
      });
      expect(corner).toEqual([255, 255, 255, 255]);
    });
  });
}

test('a profile is saved as pprof and as a page', async ({ page, link }) => {
  await open(page, link, TWO);
  for (const [button, file, content] of [
    ['Save as pprof', 'orders-two-cpu.pb.gz', 'pprof'],
    ['Save as page', 'orders-two-cpu.html', HOSTILE],
  ] as const) {
    const saved = page.waitForEvent('download');
    await page.getByRole('button', { name: button }).click();
    const download = await saved;
    expect(download.suggestedFilename()).toBe(file);
    expect(readFileSync(await download.path(), 'utf8')).toContain(content);
  }
});

test('100 000 nodes are painted soon, and move with the pointer', async ({ page, link }) => {
  await open(page, link, '#/profile/shop/orders-big');
  await expect(graph(page)).toBeVisible();
  await page.waitForFunction(() => performance.getEntriesByName('painted').length > 0);
  const first = await page.evaluate(() => {
    const at = (name: string) => performance.getEntriesByName(name)[0]!.startTime;
    return { received: at('received') - at('asked'), painted: at('painted') - at('received') };
  });
  const frames = await page.evaluate(async () => {
    const canvas = document.querySelector('canvas')!;
    const times: number[] = [];
    let last = performance.now();
    for (let frame = 0; frame < 90; frame++) {
      const init = {
        deltaX: frame % 2 ? 30 : -10,
        deltaY: 6,
        ctrlKey: frame % 3 === 0,
        bubbles: true,
        cancelable: true,
      };
      canvas.dispatchEvent(new WheelEvent('wheel', init));
      await new Promise(requestAnimationFrame);
      times.push(performance.now() - last);
      last = performance.now();
    }
    return times.sort((one, other) => one - other)[45]!;
  });
  const began = Date.now();
  await page.getByRole('searchbox', { name: 'Search' }).fill('method1.*9$');
  await expect(page.locator('output')).toContainText('of the total');
  const figures = { ...first, frame: frames, search: Date.now() - began };
  console.log('100 000 nodes, ms:', JSON.stringify(figures));
  await page.screenshot({ path: test.info().outputPath('big.png') });
  // Generous, since other work runs on the machines of CI; what is meant is 300 and 17.
  expect(first.painted).toBeLessThan(1500);
  expect(frames).toBeLessThan(100);
});
