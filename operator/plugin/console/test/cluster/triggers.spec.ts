// Does a real API server take what the pane Triggers sends? It alone knows owners of fields, defaults and the schema.
// Needs an API server with the CRDs, and no operator: KUBECONFIG, and kubectl in FLEETPROF_KUBECTL.
import { execFileSync } from 'node:child_process';
import type { Policy } from '../../src/api/types.ts';
import { expect, open, type Page, Program, test } from '../browser/rig.ts';

const KUBECONFIG = process.env.KUBECONFIG ?? '';
const NAMESPACE = 'console-triggers';

function kubectl(args: string[], input = ''): string {
  const program = process.env.FLEETPROF_KUBECTL ?? 'kubectl';
  return execFileSync(program, ['--kubeconfig', KUBECONFIG, ...args], { input, encoding: 'utf8' });
}

const POLICY = `
apiVersion: fleetprof.dev/v1alpha1
kind: ProfilingPolicy
metadata: {name: all, namespace: ${NAMESPACE}}
spec:
  selector: {matchLabels: {app: none}}
  schedule: {every: 6h}
  triggers:
    cpu: {threshold: 80}
    alerts: [{matchers: ['alertname="SlowOrders"']}]
`;

const policy = () =>
  JSON.parse(
    kubectl(['-n', NAMESPACE, 'get', 'ppol', 'all', '-o', 'json', '--show-managed-fields']),
  ) as Policy;
const group = (page: Page, name: string) => page.getByRole('group', { name, exact: true });

/** Applies what is in the form, once the API server has said whether others have set it. */
async function apply(page: Page, button: string): Promise<void> {
  const found = page.getByRole('button', { name: button, exact: true });
  await expect(found).toHaveAttribute('aria-disabled', 'false');
  await found.click();
  await expect(page.getByText('all has been changed.')).toBeVisible();
  await page.getByRole('button', { name: 'Dismiss' }).click();
}

test.beforeEach(() => {
  const namespace = `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "${NAMESPACE}"}}`;
  kubectl(['apply', '-f', '-'], namespace);
  kubectl(['apply', '-f', '-'], POLICY);
});

test.afterEach(() => {
  kubectl(['-n', NAMESPACE, 'delete', 'ppol', 'all', '--ignore-not-found']);
});

test('triggers and schedule of a policy that kubectl applied are changed', async ({ page }) => {
  test.setTimeout(120_000);
  const program = new Program(KUBECONFIG, ['--namespace', NAMESPACE]);
  try {
    await open(page, await program.first(), `#/triggers?policy=${NAMESPACE}%2Fall`);
    const others = 'Apply and take over these fields';
    // What nobody has set is the console's without a word.
    await group(page, 'Threads').getByRole('checkbox').check();
    await apply(page, 'Apply');
    await expect.poll(() => policy().spec.triggers).toMatchObject({ threads: { threshold: 500 } });
    // What kubectl has set is named first.
    await group(page, 'CPU').getByLabel('Threshold').fill('70');
    await expect(page.getByText(/conflict with "kubectl-client-side-apply"/)).toBeVisible();
    await apply(page, others);
    await expect.poll(() => policy().spec.triggers).toMatchObject({ cpu: { threshold: 70 } });
    // One way to say when instead of another one.
    await group(page, 'Schedule').getByLabel('Rounds').selectOption('cron');
    await group(page, 'Schedule').getByLabel('Cron expression').fill('0 3 * * MON-FRI');
    await expect(page.getByText(/spec\.schedule\.every: conflict with/)).toBeVisible();
    await apply(page, others);
    await expect.poll(() => policy().spec.schedule).toEqual({ cron: '0 3 * * MON-FRI', duration: '2m' });
    // A list is changed as a whole.
    await group(page, 'Alert alertname="SlowOrders"').getByLabel('Cooldown').fill('1h');
    await apply(page, others);
    // A trigger of others goes, and one of the console.
    await group(page, 'CPU').getByRole('checkbox', { name: 'CPU' }).uncheck();
    await group(page, 'Threads').getByRole('checkbox').uncheck();
    await apply(page, others);
    const { spec, metadata } = policy();
    expect(Object.keys(spec.triggers!)).toEqual(['alerts']);
    expect(spec.triggers!.alerts![0]).toMatchObject({ cooldown: '1h', duration: '30s' });
    expect(metadata.managedFields!.map(({ manager }) => manager)).toContain('fleetprof-console');
  } finally {
    program.stop();
  }
});

test('what the schema refuses is said beside the button', async ({ page }) => {
  const program = new Program(KUBECONFIG, ['--namespace', NAMESPACE]);
  try {
    await open(page, await program.first(), `#/triggers?policy=${NAMESPACE}%2Fall`);
    await group(page, 'Schedule').getByLabel('Rounds').selectOption('cron');
    await group(page, 'Schedule').getByLabel('Cron expression').fill('every day');
    await expect(page.getByRole('button', { name: /^Apply/ })).toHaveAccessibleDescription(
      /The API server rejects it: .*schedule\.cron must have five fields/,
    );
  } finally {
    program.stop();
  }
});
