// What does the page cost while nothing happens? With 1000 sessions and 500 apps, by Chromium's own count.
import { session } from './recorded.ts';
import { expect, open, test } from './rig.ts';

const SECONDS = 10;

test('an idle page with 1000 sessions and 500 apps costs next to nothing', async ({ page, link, fake }) => {
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
    const used = after('TaskDuration') - before('TaskDuration');
    figures[pane] = `${((100 * used) / SECONDS).toFixed(2)} % of a core`;
    figures[`${pane}, heap`] = `${(after('JSHeapUsedSize') / 2 ** 20).toFixed(1)} MiB`;
    expect(used / SECONDS, pane).toBeLessThan(0.1);
  }
  console.log('1000 sessions and 500 apps, idle:', JSON.stringify(figures));
});
