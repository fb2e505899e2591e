// Does the console do its job on a real cluster? On the shop of `make demo`, whose slow function is known.
import { expect, open, Program, test } from '../browser/rig.ts';

const kubeconfig = process.env.KUBECONFIG ?? '';

test('a newcomer finds the slow function of the shop', async ({ page }) => {
  test.setTimeout(180_000);
  const program = new Program(kubeconfig, ['--namespace', 'shop']);
  try {
    await open(page, await program.first(), '#/apps');
    const table = page.getByRole('table', { name: 'Linked apps' });
    await expect(table.getByRole('row', { name: /Deployment\/orders/ })).toBeVisible();
    await page.screenshot({ path: test.info().outputPath('apps.png') });
    await table
      .getByRole('row', { name: /Deployment\/orders/ })
      .getByRole('link', { name: 'Profile now' })
      .click();
    await page.getByRole('textbox', { name: 'Duration' }).fill('15s');
    const button = page.getByRole('button', { name: 'Profile now' });
    await expect(button).toHaveAttribute('aria-disabled', 'false');
    await button.click();
    await expect(page.getByText('Still collecting.')).toBeVisible();
    await expect(page.getByRole('progressbar', { name: 'Capture' })).toBeVisible({ timeout: 60_000 });
    const graph = page.getByRole('application', { name: /Flame graph/ });
    await expect(graph).toBeVisible({ timeout: 120_000 });
    await page.getByRole('searchbox', { name: 'Search' }).fill('find_issuer');
    await expect(page.locator('output')).toContainText('of the total');
    await page.screenshot({ path: test.info().outputPath('graph.png') });
    await page.getByRole('button', { name: 'Table' }).click();
    await page.getByRole('searchbox', { name: 'Search' }).fill('');
    await expect(page.getByRole('table', { name: 'Functions' }).getByRole('row').nth(1)).toContainText(
      'find_issuer',
    );
    await page.getByRole('link', { name: /^Sessions/ }).click();
    await expect(
      page.getByRole('table', { name: 'Recent sessions' }).getByRole('link').first(),
    ).toBeVisible();
    await page.screenshot({ path: test.info().outputPath('sessions.png') });
  } finally {
    program.stop();
  }
});

test('a session is cancelled, and what it captured is kept', async ({ page }) => {
  test.setTimeout(120_000);
  const program = new Program(kubeconfig, ['--namespace', 'shop']);
  try {
    const form = 'namespace=shop&policy=ProfilingPolicy/shop&app=Deployment/orders';
    await open(page, await program.first(), `#/now?${form}`);
    await page.getByRole('textbox', { name: 'Duration' }).fill('2m');
    await page.getByRole('button', { name: 'Profile now' }).click();
    await expect(page.getByRole('progressbar', { name: 'Capture' })).toBeVisible({ timeout: 60_000 });
    await page.getByRole('button', { name: /^Cancel/ }).click();
    await expect(page.getByText(/^Cancelled/).first()).toBeVisible({ timeout: 60_000 });
  } finally {
    program.stop();
  }
});

test('who may not profile is told what is missing', async ({ page }) => {
  const program = new Program(kubeconfig, [
    '--namespace',
    'shop',
    '--as',
    'eve',
    '--as-group',
    'system:authenticated',
  ]);
  try {
    await open(page, await program.first(), '#/now?namespace=shop&pods=any');
    const button = page.getByRole('button', { name: 'Profile now' });
    await expect(button).toHaveAccessibleDescription(
      /cannot create resource|You may not create profilesessions/,
    );
  } finally {
    program.stop();
  }
});
