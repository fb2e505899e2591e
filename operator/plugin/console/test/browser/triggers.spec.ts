// Does the pane Triggers change what it says, and nothing else?
import { HOSTILE } from './recorded.ts';
import { expect, open, type Page, test } from './rig.ts';

const SHOP = '#/triggers?policy=shop%2Fshop';
const group = (page: Page, name: string) => page.getByRole('group', { name, exact: true });
const apply = (page: Page) => page.getByRole('button', { name: /^Apply/ });
const specOf = (fake: { policies: Map<string, { spec: object }> }, name = 'shop') =>
  fake.policies.get(name)!.spec as Record<string, Record<string, Record<string, unknown>>>;

test('a policy is found, and its threshold changed', async ({ page, link, fake }) => {
  await open(page, link, '#/triggers');
  const table = page.getByRole('table', { name: 'Policies' });
  await expect(table.getByRole('row').nth(1)).toContainText('CPU 80 %, 1 alert');
  await table.getByRole('link', { name: 'shop' }).click();
  await expect(apply(page)).toHaveAccessibleDescription('There is nothing to apply.');
  await expect(page.getByText(`Alert alertname="${HOSTILE}"`)).toBeVisible();
  await group(page, 'CPU').getByLabel('Cooldown').fill('1h');
  await expect(page.getByText('spec.triggers.cpu.cooldown: "4h" → "1h"')).toBeVisible();
  await expect.poll(() => fake.asked.some((asked) => /PATCH .*dryRun=All/.test(asked))).toBe(true);
  await apply(page).click();
  await expect(page.getByText('shop has been changed.')).toBeVisible();
  expect(specOf(fake).triggers!.cpu).toMatchObject({ threshold: 80, cooldown: '1h' });
  const sent = fake.asked.filter((asked) => asked.startsWith('PATCH') && !asked.includes('dryRun'));
  expect(sent).toEqual([
    'PATCH /apis/fleetprof.dev/v1alpha1/namespaces/shop/profilingpolicies/shop?fieldManager=fleetprof-console&fieldValidation=Strict',
  ]);
  await expect(apply(page)).toHaveAccessibleDescription('There is nothing to apply.');
});

test('who else has set a field is said before it is taken over', async ({ page, link, fake }) => {
  await open(page, link, SHOP);
  await group(page, 'CPU').getByLabel('Threshold').fill('70');
  await expect(page.getByText('spec.triggers.cpu.threshold: conflict with "kubectl"')).toBeVisible();
  await expect(apply(page)).toHaveText('Apply and take over these fields');
  await apply(page).click();
  await expect(page.getByText('shop has been changed.')).toBeVisible();
  expect(specOf(fake).triggers!.cpu).toMatchObject({ threshold: 70 });
  await group(page, 'CPU').getByRole('checkbox', { name: 'CPU' }).uncheck();
  await group(page, 'Threads').getByRole('checkbox').check();
  await expect(page.getByText('spec.triggers.threads.threshold: nothing → 500')).toBeVisible();
  await expect(apply(page)).toHaveText('Apply and take over these fields');
  await apply(page).click();
  await expect.poll(() => Object.keys(specOf(fake).triggers!)).toEqual(['alerts', 'threads']);
});

test('what is wrong, refused or forbidden is said beside the button', async ({ page, link, fake }) => {
  await open(page, link, SHOP);
  const cooldown = group(page, 'CPU').getByLabel('Cooldown');
  await cooldown.fill('1d');
  await expect(apply(page)).toHaveAccessibleDescription(
    'CPU: Cooldown: it must be from 2m to 168h, written as in 1h30m or 90s.',
  );
  await expect(cooldown).toHaveAttribute('aria-invalid', 'true');
  await cooldown.fill('4h');
  await group(page, 'CPU').getByLabel('Capture').fill('13s');
  await expect(apply(page)).toHaveAccessibleDescription('The API server rejects it: spec: 13 is unlucky');
  await page.getByRole('button', { name: 'Discard changes' }).click();
  await expect(apply(page)).toHaveAccessibleDescription('There is nothing to apply.');
  expect(fake.asked.filter((asked) => asked.startsWith('PATCH') && !asked.includes('dryRun'))).toEqual([]);
  const locked = structuredClone(fake.policies.get('shop')!);
  locked.metadata = { ...locked.metadata, namespace: 'locked', name: 'mine', uid: 'locked' };
  fake.putPolicy(locked);
  await page.evaluate(() => location.assign('#/triggers?policy=locked%2Fmine'));
  await expect(apply(page)).toHaveAccessibleDescription(
    /You may not patch profilingpolicies "mine" in namespace locked.*fleetprof-admin/,
  );
});

test('a policy of a repository is changed there: the patch is given', async ({ page, link }) => {
  await open(page, link, '#/triggers?policy=stock%2Fstock');
  await expect(page.getByRole('note')).toContainText(
    `Argo CD (stock ${HOSTILE}) manages this policy: it will revert`,
  );
  await group(page, 'Schedule').getByLabel('Rounds').selectOption('cron');
  await group(page, 'Schedule').getByLabel('Cron expression').fill('0 3 * * *');
  await expect(page.locator('pre')).toHaveText(
    /kind: ProfilingPolicy\n.*name: stock\n.*namespace: stock\nspec:\n {2}schedule:\n {4}cron: "0 3 \* \* \*"\n {4}every: null/s,
  );
  await expect(page.getByRole('button', { name: 'Copy: the change as YAML' })).toBeVisible();
});

test('a change of somebody else is neither undone nor overlooked', async ({ page, link, fake }) => {
  await open(page, link, SHOP);
  await group(page, 'CPU').getByLabel('Cooldown').fill('1h');
  await expect(page.getByText('spec.triggers.cpu.cooldown: "4h" → "1h"')).toBeVisible();
  // Its status changes with each session: the version alone does not matter.
  const policy = structuredClone(fake.policies.get('shop')!);
  policy.spec.frequencyHz = 49;
  fake.putPolicy(policy);
  await expect(page.getByLabel('Samples per second')).toHaveValue('49');
  await apply(page).click();
  await expect(page.getByText('shop has been changed.')).toBeVisible();
  expect(specOf(fake)).toMatchObject({ frequencyHz: 49, triggers: { cpu: { cooldown: '1h' } } });
});

test('a timing without its value is not applied, and edits stay with their alert', async ({
  page,
  link,
  fake,
}) => {
  await open(page, link, SHOP);
  await group(page, 'Schedule').getByLabel('Rounds').selectOption('preset');
  await expect(apply(page)).toHaveAccessibleDescription('Schedule: Share of the time: a value is missing.');
  await page.getByRole('button', { name: 'Discard changes' }).click();
  const alert = (name: string) => group(page, `Alert alertname="${name}"`).getByLabel('Cooldown');
  await alert(HOSTILE).fill('1h');
  // Somebody puts another alert before it, then takes it away.
  const policy = structuredClone(fake.policies.get('shop')!);
  const alerts = (policy.spec as { triggers: { alerts: object[] } }).triggers.alerts;
  alerts.unshift({ matchers: ['alertname="First"'], duration: '30s', cooldown: '5h' });
  fake.putPolicy(structuredClone(policy));
  await expect(alert('First')).toHaveValue('5h');
  await expect(alert(HOSTILE)).toHaveValue('1h');
  alerts.pop();
  fake.putPolicy(policy);
  await expect(alert(HOSTILE)).toHaveCount(0);
  await expect(alert('First')).toHaveValue('5h');
  await expect(apply(page)).toHaveAccessibleDescription('There is nothing to apply.');
});
