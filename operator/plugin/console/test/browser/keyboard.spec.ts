// Can everything be done without a mouse? Each pane is walked with Tab, and each task done with keys alone.
import { expect, open, type Page, test } from './rig.ts';

/** What can have the focus, in the order of the page; of radio buttons of one name the chosen one. */
const FOCUSABLE = 'a[href], button:not(:disabled), input:not(:disabled), select, summary, [tabindex="0"]';

/** Marks what can have the focus, and how much that is. */
async function marked(page: Page): Promise<number> {
  return page.evaluate((selector) => {
    const all = [...document.querySelectorAll<HTMLElement>(selector)].filter((element) => {
      const radio = element instanceof HTMLInputElement && element.type === 'radio' && !element.checked;
      return element.getClientRects().length > 0 && !radio;
    });
    for (const [at, element] of all.entries()) element.dataset.stop = String(at);
    return all.length;
  }, FOCUSABLE);
}

/** Where the focus is, and whether that can be seen. */
const focus = (page: Page) =>
  page.evaluate(() => {
    const element = document.activeElement as HTMLElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    const seen = outlineStyle !== 'none' && outlineWidth !== '0px';
    return { stop: element.dataset.stop, seen, what: element.outerHTML.slice(0, 120) };
  });

for (const pane of [
  'sessions',
  'apps',
  'now',
  'triggers?policy=shop%2Fshop',
  'profile/shop/orders-two',
  'profile/shop/orders-two?view=tree',
  'profile/shop/orders-two?view=table',
  'profile/shop/orders-two?of=post_order',
  'profile/shop/orders-two?base=orders-old',
]) {
  test(`Tab reaches everything, in order and visibly: ${pane}`, async ({ page, link }) => {
    await open(page, link, `#/${pane}`);
    await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
    if (pane === 'sessions' || pane === 'apps') await expect(page.getByRole('table')).toBeVisible();
    if (pane.startsWith('profile')) await expect(page.getByRole('region', { name: 'Profile' })).toBeVisible();
    if (pane.startsWith('triggers')) await expect(page.getByRole('button', { name: /^Apply/ })).toBeVisible();
    const stops = await marked(page);
    expect(stops).toBeGreaterThan(8);
    await page.locator('[data-stop="0"]').focus();
    const order = [(await focus(page)).stop];
    for (let tab = 1; tab < stops; tab++) {
      await page.keyboard.press('Tab');
      const { stop, seen, what } = await focus(page);
      expect(seen, `the focus cannot be seen: ${what}`).toBe(true);
      order.push(stop);
    }
    expect(order).toEqual(Array.from({ length: stops }, (_, at) => String(at)));
    await page.keyboard.press('Shift+Tab');
    expect((await focus(page)).stop, 'and back').toBe(String(stops - 2));
  });
}

/** Presses Tab until something with this name has the focus. */
async function tabTo(
  page: Page,
  role: Parameters<Page['getByRole']>[0],
  name: string | RegExp,
): Promise<void> {
  const wanted = page.getByRole(role, { name }).first();
  await expect(wanted).toBeVisible();
  for (let tabs = 0; tabs < 120; tabs++) {
    if (await wanted.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`Tab does not reach ${role} ${name}`);
}

test('a session is started with keys alone', async ({ page, link, fake }) => {
  await open(page, link);
  await tabTo(page, 'link', 'Linked apps');
  await page.keyboard.press('Enter');
  await tabTo(page, 'searchbox', 'Filter');
  await page.keyboard.type('orders');
  await tabTo(page, 'link', 'Profile now');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'Profile now' })).toBeVisible();
  await page.goBack();
  const table = page.getByRole('table', { name: 'Linked apps' });
  await expect(table).toBeVisible();
  await table.getByRole('link', { name: 'Profile now' }).first().focus();
  await page.keyboard.press('Enter');
  await expect(page.getByRole('main'), 'what had the focus is gone: the pane has it').toBeFocused();
  await tabTo(page, 'textbox', 'Duration');
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.type('20s');
  await tabTo(page, 'button', 'Profile now');
  await page.keyboard.press('Space');
  await expect(page.getByText('Still collecting.')).toBeVisible();
  expect([...fake.sessions.values()].some(({ spec }) => spec.duration === '20s')).toBe(true);
});

test('a threshold is changed with keys alone', async ({ page, link, fake }) => {
  await open(page, link, '#/triggers?policy=shop%2Fshop');
  await tabTo(page, 'textbox', 'Cooldown');
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.type('2h');
  await page.keyboard.press('Enter');
  await expect(page.getByText('shop has been changed.')).toBeVisible();
  expect(fake.policies.get('shop')!.spec.triggers).toMatchObject({ cpu: { cooldown: '2h' } });
  await tabTo(page, 'button', 'Dismiss');
  await page.keyboard.press('Enter');
  await expect(page.getByText('shop has been changed.')).toHaveCount(0);
});

test('the keys of the graph are shown by one of them', async ({ page, link }) => {
  await open(page, link, '#/profile/shop/orders-two');
  await tabTo(page, 'application', /Flame graph/);
  await page.keyboard.press('?');
  await expect(page.getByText('next and previous match')).toBeVisible();
  await page.keyboard.press('Tab');
  await expect(page.getByText('Keys', { exact: true }), 'the graph lets the focus go').toBeFocused();
});
