// The screenshots of the README, in docs/images: `make screenshots` makes them again.
import { statSync } from 'node:fs';
import { expect, open, test } from '../browser/rig.ts';
import { profile, sessions } from './shop.ts';

const FOLDER = '../../../docs/images';
/** They are part of the repository, and of each clone. */
const MOST_BYTES = 60_000;

test.use({ viewport: { width: 1180, height: 600 }, deviceScaleFactor: 0.8, colorScheme: 'light' });

test.beforeEach(({ fake }) => {
  fake.sessions = new Map(sessions().map((one) => [one.metadata.name, one]));
  fake.trees = profile;
});

async function shoot(page: import('@playwright/test').Page, name: string): Promise<void> {
  const path = `${FOLDER}/${name}.png`;
  await page.mouse.move(0, 0);
  await page.screenshot({ path, animations: 'disabled' });
  expect(statSync(path).size).toBeLessThan(MOST_BYTES);
}

test('sessions', async ({ page, link }) => {
  await open(page, link);
  await expect(page.getByRole('link', { name: /^orders-cpu/ })).toBeVisible();
  await shoot(page, 'console-sessions');
});

test('a flame graph', async ({ page, link, fake }) => {
  const name = [...fake.sessions.keys()].find((known) => known.startsWith('orders-cpu'));
  await open(page, link, `#/profile/shop/${name}?q=find_issuer`);
  await page.waitForFunction(() => performance.getEntriesByName('painted').length > 0);
  await page.getByRole('searchbox', { name: 'Search' }).press('Enter');
  await expect(page.locator('output')).toContainText('1 of 1');
  await page.getByRole('searchbox', { name: 'Search' }).blur();
  await shoot(page, 'console-flame');
});
