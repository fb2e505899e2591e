// Does each pane do its job, in a real browser, with the real program before a stand-in for the API server?
import { HOSTILE, session } from './recorded.ts';
import { accessible, expect, hide, open, test } from './rig.ts';

test('sessions in progress and recent ones are shown, sorted and filtered', async ({ page, link }) => {
  await open(page, link);
  await expect(page.getByRole('heading', { name: 'In progress (2)' })).toBeVisible();
  await expect(page.getByRole('progressbar', { name: 'Capture of orders-runs' })).toBeVisible();
  await expect(page.getByText('Results are late. They may still arrive until')).toBeVisible();
  const table = page.getByRole('table', { name: 'Recent sessions' });
  await expect(table.getByRole('row')).toHaveCount(7);
  await expect(table.getByText(`Deployment/${HOSTILE}`)).toBeVisible();
  await table.getByRole('button', { name: 'CPU' }).click();
  await expect(table.getByRole('columnheader', { name: 'CPU' })).toHaveAttribute('aria-sort', 'descending');
  await expect(table.getByRole('row').nth(1)).toContainText('orders-two');
  await page.getByRole('searchbox', { name: 'Filter' }).fill('permissiondenied');
  await expect(table.getByRole('row')).toHaveCount(2);
  await table.getByRole('link', { name: 'orders-broken' }).click();
  await expect(page.getByText('The session failed: there is no profile.')).toBeVisible();
  await page.goBack();
  await expect(page.getByRole('heading', { name: 'Sessions' })).toBeVisible();
});

test('what happens is shown as it happens, also after the connection was lost', async ({
  page,
  link,
  fake,
}) => {
  await open(page, link);
  await expect(page.getByRole('heading', { name: 'In progress (2)' })).toBeVisible();
  fake.put(session('orders-new', { phase: 'Running', samples: 0 }));
  await expect(page.getByRole('heading', { name: 'In progress (3)' })).toBeVisible();
  await expect(page).toHaveTitle('(3) fleetprof');
  fake.put({ ...fake.sessions.get('orders-new')!, status: session('x').status! });
  await expect(
    page.getByRole('status').getByRole('link', { name: 'Deployment/orders: Succeeded' }),
  ).toBeVisible();
  fake.broken = 503;
  fake.drop();
  await expect(page.getByText('Reconnecting; sessions may be out of date.').first()).toBeVisible();
  await expect(page.getByRole('link', { name: 'orders-runs' }), 'what was known stays').toBeVisible();
  fake.remove('orders-runs', false);
  fake.broken = 0;
  await expect(page.getByRole('link', { name: 'orders-runs' })).toHaveCount(0);
  await expect(page.getByText('Reconnecting')).toHaveCount(0);
});

test('a watch whose version is too old is followed by a new list', async ({ page, link, fake }) => {
  await open(page, link);
  await expect(page.getByRole('link', { name: 'orders-old' })).toBeVisible();
  await expect.poll(() => fake.asked.some((asked) => asked.includes('profilesessions?watch=1'))).toBe(true);
  fake.remove('orders-old', false);
  fake.expire();
  await expect(page.getByRole('link', { name: 'orders-old' })).toHaveCount(0);
});

test('the end of a session is told by the browser while nobody looks, if the person wants that', async ({
  page,
  link,
  fake,
}) => {
  await page.addInitScript(() => {
    const told: string[] = [];
    class Fake {
      static permission = 'default';
      static async requestPermission() {
        Fake.permission = 'granted';
        return 'granted';
      }
      constructor(_: string, { body }: { body: string }) {
        told.push(body);
      }
    }
    Object.assign(globalThis, { Notification: Fake, told });
  });
  const told = () => page.evaluate(() => (globalThis as unknown as { told: string[] }).told);
  const watches = () => fake.asked.filter((asked) => asked.includes('watch=1')).length;
  await open(page, link);
  await expect(page.getByRole('heading', { name: 'In progress (2)' })).toBeVisible();
  await page.getByRole('button', { name: 'Tell me when a session ends' }).click();
  await expect(page.getByText('The browser tells you when a session ends')).toBeVisible();
  fake.put({ ...fake.sessions.get('orders-runs')!, status: session('x').status! });
  const toast = page.getByRole('status').getByRole('link', { name: 'Deployment/orders: Succeeded' });
  await expect(toast).toBeVisible();
  expect(await told(), 'who looks at the page sees it').toEqual([]);
  await page.getByRole('button', { name: 'Dismiss' }).click();
  const before = watches();
  await hide(page, true);
  await expect.poll(watches, 'only sessions are followed, and go on').toBe(before);
  fake.put({ ...fake.sessions.get('orders-late')!, status: { ...session('x').status!, phase: 'Cancelled' } });
  await expect.poll(told).toEqual(['Deployment/orders: Cancelled']);
  await hide(page, false);
  await expect(page.getByRole('status').getByRole('link', { name: /Cancelled/ })).toBeVisible();
});

test('a session is cancelled', async ({ page, link, fake }) => {
  await open(page, link);
  await page.getByRole('button', { name: 'Cancel orders-runs' }).click();
  await expect(page.getByRole('heading', { name: 'In progress (1)' })).toBeVisible();
  expect(fake.sessions.get('orders-runs')!.spec.cancel).toBe(true);
});

test('linked apps are shown with what is wrong, and lead to Profile now', async ({ page, link }) => {
  await open(page, link, '#/apps');
  const table = page.getByRole('table', { name: 'Linked apps' });
  await expect(table.getByRole('row')).toHaveCount(4);
  await expect(table.getByText('NotLinked · UnknownUser')).toBeVisible();
  await expect(table.getByText(HOSTILE)).toBeVisible();
  await expect(table.getByRole('link', { name: 'open (97 % covered)' })).toBeVisible();
  await page.getByRole('radio', { name: 'Outdated agent (1)' }).check();
  await expect(table.getByRole('row')).toHaveCount(2);
  await page.getByRole('radio', { name: 'Cannot be profiled (1)' }).check();
  await expect(table.getByRole('row').nth(1)).toContainText('Deployment/cards');
  await page.getByRole('radio', { name: 'All (3)' }).check();
  await table
    .getByRole('row', { name: /orders/ })
    .getByRole('link', { name: 'Profile now' })
    .click();
  await expect(page.getByRole('combobox', { name: 'App' })).toHaveValue('Deployment/orders');
  await expect(page.getByRole('combobox', { name: 'Policy' })).toHaveValue('ProfilingPolicy/shop');
});

test('Profile now says what will happen, and does it', async ({ page, link, fake }) => {
  await open(page, link, '#/now');
  const button = page.getByRole('button', { name: 'Profile now' });
  await expect(button).toHaveAttribute('aria-disabled', 'true');
  await expect(button).toHaveAccessibleDescription('Choose a policy, an app or pods.');
  await page.getByRole('combobox', { name: 'Policy' }).selectOption({ label: 'shop' });
  await page.getByRole('combobox', { name: 'App' }).selectOption('Deployment/orders');
  await expect(page.getByText('Records cpu of pods of Deployment/orders (3 can be profiled)')).toBeVisible();
  await page.getByRole('textbox', { name: 'Duration' }).fill('5s');
  await expect(button).toHaveAccessibleDescription('The duration must be between 10s and 6m.');
  await page.getByRole('textbox', { name: 'Duration' }).fill('15s');
  await page.getByRole('textbox', { name: 'Note' }).fill('refuse me');
  await expect(button).toHaveAccessibleDescription('The API server rejects it: spec: the schema says no');
  await page.getByRole('textbox', { name: 'Note' }).fill('slow since noon');
  await expect(button).toHaveAttribute('aria-disabled', 'false');
  await expect(
    page.getByText(
      'kubectl fleetprof now Deployment/orders -n shop --policy shop --duration 15s --type cpu --note',
    ),
  ).toBeVisible();
  await button.click();
  await expect(page.getByText('Still collecting. The profile appears here by itself.')).toBeVisible();
  const made = fake.sessions.get('orders-now-x1')!;
  expect(made.spec).toMatchObject({
    duration: '15s',
    profiles: ['cpu'],
    context: { note: 'slow since noon' },
  });
  fake.put({ ...made, status: session('x').status! });
  await expect(page.getByRole('application', { name: /Flame graph/ })).toBeVisible();
});

test('trouble that passes does not lock Profile now', async ({ page, link, fake }) => {
  await open(page, link, '#/now?namespace=shop&policy=ProfilingPolicy/shop');
  const button = page.getByRole('button', { name: 'Profile now' });
  await expect.poll(() => fake.asked.some((asked) => asked.includes('dryRun=All'))).toBe(true);
  fake.broken = 503;
  await page.getByRole('textbox', { name: 'Note' }).fill('slow');
  const told = page.getByText('The API server could not be reached: The API server is ill.').first();
  await expect(told).toBeVisible();
  await expect(button).toHaveAttribute('aria-disabled', 'false');
  fake.broken = 0;
  await button.click();
  await expect(page.getByText('Still collecting. The profile appears here by itself.')).toBeVisible();
});

test('a right that is missing is said beside the button, with the role that has it', async ({
  page,
  link,
}) => {
  await open(page, link, '#/now?namespace=locked&pods=a');
  const button = page.getByRole('button', { name: 'Profile now' });
  await expect(button).toHaveAttribute('aria-disabled', 'true');
  await expect(button).toHaveAccessibleDescription(
    /You may not create profilesessions in namespace locked.*fleetprof-runner/,
  );
});

test('nothing captured, failed and not found are told apart', async ({ page, link }) => {
  await open(page, link, '#/profile/shop/orders-idle');
  await expect(page.getByText('The session has ended and captured nothing.')).toBeVisible();
  await page.evaluate(() => location.assign('#/profile/shop/orders-gone'));
  await expect(page.getByRole('alert')).toHaveText('"orders-gone" not found');
  await page.evaluate(() => location.assign('#/profile/shop/orders-late'));
  await expect(page.getByText('Results are late.')).toBeVisible();
});

test('what many targets have in common is shown at each of them', async ({ page, link, fake }) => {
  const targets = Array.from({ length: 5 }, (_, at) => ({
    pod: `orders-${at}`,
    phase: 'Failed',
    samples: 0,
  }));
  const facts = { container: 'app', collector: 'perf', reason: 'PermissionDenied' };
  const texts = { message: 'perf is forbidden.', leftOut: 'wall: no ptrace' };
  const shared = [{ phase: 'Failed', ...facts, ...texts }];
  fake.put(session('orders-many', { phase: 'Failed', samples: 0, targets, shared }));
  await open(page, link, '#/profile/shop/orders-many');
  const shown = page.locator('.targets').getByRole('listitem');
  await expect(shown).toHaveCount(5);
  await expect(shown.last()).toHaveText(
    /^orders-4 app .* Failed · PermissionDenied · 0 samples perf is forbidden\. Left out: wall: no ptrace$/,
  );
  await expect(page.locator('.facts')).toContainText('Collectorperf');
});

test('a page that was hidden shows what it knew while the API server is away', async ({
  page,
  link,
  fake,
}) => {
  await open(page, link, '#/triggers?policy=shop%2Fshop');
  const cooldown = page.getByRole('group', { name: 'CPU', exact: true }).getByLabel('Cooldown');
  await cooldown.fill('1h');
  await hide(page, true);
  fake.broken = 503;
  await hide(page, false);
  await expect(page.getByText(/^Reconnecting/).first()).toBeVisible();
  await expect(cooldown, 'what was typed').toHaveValue('1h');
  await expect(page, 'the running sessions').toHaveTitle('(2) fleetprof');
  fake.broken = 0;
  await expect(page.getByText(/^Reconnecting/)).toHaveCount(0);
  await expect(cooldown).toHaveValue('1h');
});

test('a session outside of the followed namespace is shown as it goes on', async ({ page, link, fake }) => {
  await open(page, link);
  await page.getByRole('textbox', { name: 'Namespace' }).fill('shop');
  await page.getByRole('textbox', { name: 'Namespace' }).press('Enter');
  // No watch tells of it, as none would of another namespace.
  const runs = session('elsewhere', { phase: 'Running', samples: 0 });
  runs.metadata.namespace = 'stock';
  fake.sessions.set('elsewhere', runs);
  await page.evaluate(() => location.assign('#/profile/stock/elsewhere'));
  await expect(page.getByText('Still collecting. The profile appears here by itself.')).toBeVisible();
  fake.sessions.set('elsewhere', { ...runs, status: session('x').status! });
  await expect(page.getByRole('application', { name: /Flame graph/ })).toBeVisible();
});

for (const scheme of ['light', 'dark'] as const) {
  test(`every pane can be used without seeing it: ${scheme}`, async ({ page, link }) => {
    await page.emulateMedia({ colorScheme: scheme });
    await open(page, link);
    const panes = [
      'sessions',
      'apps',
      'now',
      'triggers?policy=shop%2Fshop',
      'triggers?policy=stock%2Fstock',
      'profile/shop/orders-two?q=json',
      'profile/shop/orders-two?view=table',
      'profile/shop/orders-two?view=tree',
      'profile/shop/orders-two?of=post_order',
      'profile/shop/orders-two?base=orders-old',
    ];
    for (const pane of panes) {
      await page.evaluate((to) => location.assign(to), `#/${pane}`);
      await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
      if (pane.startsWith('profile'))
        await expect(page.getByRole('region', { name: 'Profile' })).toBeVisible();
      await accessible(page);
      await page.screenshot({ path: test.info().outputPath(`${pane.replace(/\W+/g, '-')}.png`) });
    }
  });
}
