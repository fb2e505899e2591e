// What does the page cost while nothing happens? With 1000 sessions and 500 apps, by Chromium's own count.
import { session } from './recorded.ts';
import { expect, open, test } from './rig.ts';

const SECONDS = 10;
/** As docs/console.md says; measured are 1.2 % with sessions and 0.3 % with apps. */
const MOST_PERCENT = 3;

test('an idle page with 1000 sessions and 500 apps takes less than 3 % of a core', async ({
  page,
  link,
  fake,
}) => {
  test.setTimeout(90_000);
  for (let number = 0; number < 1000; number++) {
    const one = session(`load-${number}`);
    fake.sessions.set(one.metadata.name, one);
  }
  const policy = fake.policies.get('shop')!;
  const [first] = policy.status!.linkedApps!;
  policy.status!.linkedApps = Array.from({ length: 500 }, (_, at) => ({ ...first!, name: `app-${at}` }));
  const client = await page.context().newCDPSession(page);
  await client.send('Performance.enable', { timeDomain: 'threadTicks' });
  const metrics = async () => {
    const { metrics: all } = await client.send('Performance.getMetrics');
    return (name: string) => all.find((metric) => metric.name === name)!.value;
  };
  await open(page, link);
  const figures: Record<string, string> = {};
  for (const [pane, shown] of [
    ['sessions', 'Recent (1006)'],
    ['apps', 'Deployment/app-0'],
  ] as const) {
    await page.evaluate((to) => location.assign(to), `#/${pane}`);
    await expect(page.getByText(shown, { exact: true }).first()).toBeAttached();
    await page.waitForTimeout(1000);
    const before = await metrics();
    await page.waitForTimeout(SECONDS * 1000);
    const after = await metrics();
    const percent = (100 * (after('TaskDuration') - before('TaskDuration'))) / SECONDS;
    figures[pane] = `${percent.toFixed(2)} % of a core`;
    figures[`${pane}, heap`] = `${(after('JSHeapUsedSize') / 2 ** 20).toFixed(1)} MiB`;
    expect(percent, `${pane}: % of a core`).toBeLessThan(MOST_PERCENT);
  }
  console.log('1000 sessions and 500 apps, idle:', JSON.stringify(figures));
});
