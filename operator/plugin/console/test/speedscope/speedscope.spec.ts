// Does a plugin that was built with speedscope show a profile in it, and nothing of the console to it?
import { HOSTILE } from '../browser/recorded.ts';
import { expect, open, test } from '../browser/rig.ts';
import { pprof } from './pprof.ts';

const TWO = '#/profile/shop/orders-two';

test('the function that used most is the widest in speedscope', async ({ page, link, fake, watched }) => {
  fake.profile = pprof([
    { stack: ['main', 'post_order', 'find_issuer'], value: 700_000_000 },
    { stack: ['main', 'post_order', 'json'], value: 100_000_000 },
    { stack: ['main', HOSTILE, '_ZN4shop5priceEi'], value: 200_000_000 },
  ]);
  const asked: string[] = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  await open(page, link, TWO);
  await page.getByRole('button', { name: 'Open in speedscope' }).click();
  const frame = page.frameLocator('iframe.speedscope');
  await expect(frame.getByText('Left Heavy')).toBeVisible();
  await expect(frame.getByText('orders-two-cpu')).toBeVisible();
  const canvas = (await frame.locator('canvas').last().boundingBox())!;
  // What is under the pointer, down through the heaviest stack.
  await expect(async () => {
    const seen: string[] = [];
    for (let y = 6; y < 260; y += 8) {
      await page.mouse.move(canvas.x + canvas.width * 0.6, canvas.y + y);
      // biome-ignore lint/performance/useDomNodeTextContent: the text of scripts is not seen.
      seen.push(await frame.locator('body').innerText());
    }
    expect(seen.some((text) => text.includes('find_issuer') && text.includes('700.00ms (70%)'))).toBe(true);
  }).toPass();
  await page.screenshot({ path: test.info().outputPath('speedscope.png') });
  await frame.getByText('Sandwich').click();
  const rows = frame.locator('table tr');
  await expect(rows.filter({ hasText: 'find_issuer' })).toContainText('700.00ms (70%)');
  await expect(rows.filter({ hasText: 'shop::price(int)' }), 'names of C++ are read').toBeVisible();
  await expect(rows.filter({ hasText: HOSTILE })).toBeVisible();
  expect(new Set(asked)).toContain('/speedscope');
  expect(asked.filter((path) => /\.(woff2|css|wasm|txt)$/.test(path) && path !== '/style.css')).toEqual([]);
  expect(watched.errors).toEqual([]);
  await page.goBack();
  await expect(page.getByRole('application', { name: /Flame graph/ })).toBeVisible();
});

test('what is in the frame reaches neither the console nor anybody else', async ({
  page,
  link,
  fake,
  watched,
}) => {
  fake.profile = pprof([{ stack: ['main'], value: 1_000_000 }]);
  await open(page, link, TWO);
  await page.getByRole('button', { name: 'Open in speedscope' }).click();
  await expect(page.frameLocator('iframe.speedscope').getByText('Left Heavy')).toBeVisible();
  const inside = page.frames().find((frame) => frame.url().includes('/speedscope'))!;
  const site = new URL('/', link).href;
  const tried = await inside.evaluate(async (home) => {
    const failed = async (work: () => unknown) => {
      try {
        await work();
        return false;
      } catch {
        return true;
      }
    };
    const request = (address: string) =>
      new Promise((done, fail) => {
        const one = new XMLHttpRequest();
        one.onload = done;
        one.onerror = fail;
        one.open('GET', address);
        one.send();
      });
    const image = new Promise((done, fail) => {
      const one = new Image();
      one.onload = done;
      one.onerror = fail;
      one.src = `${home}speedscope`;
    });
    document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.hit=1">');
    return {
      origin: self.origin,
      storage: await failed(() => sessionStorage.length),
      parent: await failed(() => window.parent.document.title),
      console: await failed(() => request(`${home}api/apis/fleetprof.dev/v1alpha1/profilesessions`)),
      elsewhere: await failed(() => request('http://127.0.0.1:1/')),
      image: await failed(() => image),
      code: await failed(
        () =>
          new Promise((done, fail) =>
            setTimeout(() => {
              try {
                done(new Function('return 1')());
              } catch (error) {
                fail(error);
              }
            }),
          ),
      ),
      window: window.open('about:blank') === null,
      hit: (window as { hit?: number }).hit ?? 0,
    };
  }, site);
  expect(tried).toEqual({
    origin: 'null',
    storage: true,
    parent: true,
    console: true,
    elsewhere: true,
    image: true,
    code: true,
    window: true,
    hit: 0,
  });
  await inside.evaluate(() => location.assign('http://127.0.0.1:1/stolen')).catch(() => undefined);
  await page.waitForTimeout(500);
  expect(page.url(), 'the page stays').toContain('/profile/shop/orders-two');
  expect(
    page
      .frames()
      .map((frame) => frame.url())
      .join(' '),
  ).not.toContain('stolen');
  watched.errors.length = 0;
});
