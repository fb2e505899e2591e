// What every test of the page has: a stand-in for the API server, the real program before it, and a page that
// was opened with its link. At the end: no error, no request to anybody else, no hostile name that ran.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { AxeBuilder } from '@axe-core/playwright';
import { test as base, expect, type Page } from '@playwright/test';
import { Fake } from './fake.ts';

export { expect, type Page };

/** The console as a program. */
export class Program {
  private readonly child: ChildProcess;
  private readonly lines: Interface;
  private readonly waiting: ((line: string) => void)[] = [];
  private readonly links: string[] = [];

  constructor(kubeconfig: string, more: string[] = []) {
    const program = process.env.FLEETPROF_PLUGIN;
    if (!program) throw new Error('FLEETPROF_PLUGIN must name kubectl-fleetprof: run tests/console.sh');
    const args = ['console', '--kubeconfig', kubeconfig, ...more];
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.lines = createInterface(this.child.stdout!);
    this.lines.on('line', (line) => {
      const wanting = this.waiting.shift();
      if (wanting) wanting(line);
      else this.links.push(line);
    });
  }

  /** A link that was not used yet. */
  async link(): Promise<string> {
    if (this.links.length === 0) this.child.stdin!.write('\n');
    return this.links.shift() ?? new Promise((done) => this.waiting.push(done));
  }

  /** The first link, which is printed without being asked for. */
  async first(): Promise<string> {
    return this.links.shift() ?? new Promise((done) => this.waiting.push(done));
  }

  stop(): void {
    this.child.kill('SIGINT');
  }
}

/** A kubeconfig for a server. */
export function kubeconfig(server: string): string {
  const file = join(mkdtempSync(join(tmpdir(), 'fleetprof-console-')), 'kubeconfig');
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'fake',
    contexts: [{ name: 'fake', context: { cluster: 'fake', user: 'fake', namespace: 'shop' } }],
    clusters: [{ name: 'fake', cluster: { server } }],
    users: [{ name: 'fake', user: {} }],
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

interface Fixtures {
  fake: Fake;
  program: Program;
  link: string;
  watched: { errors: string[] };
}

export const test = base.extend<Fixtures>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright asks for this form.
  fake: async ({}, use) => {
    const fake = new Fake();
    await use(fake);
    fake.close();
  },
  program: async ({ fake }, use) => {
    const program = new Program(kubeconfig(await fake.listen()));
    await use(program);
    program.stop();
  },
  link: async ({ program }, use) => use(await program.first()),
  watched: [
    async ({ page }, use) => {
      const watched = { errors: [] as string[] };
      watch(page, watched.errors);
      await use(watched);
      const hit = await page.evaluate(() => (globalThis as { hit?: number }).hit).catch(() => undefined);
      expect(hit, 'a hostile name ran').toBeUndefined();
      expect(watched.errors).toEqual([]);
    },
    { auto: true },
  ],
});

/** Collects what must not happen: errors, violations of the policy, requests to others. */
function watch(page: Page, errors: string[]): void {
  page.on('pageerror', (error) => errors.push(`error: ${error.message}`));
  page.on('console', (message) => {
    // A refused request is what some tests are about; Chromium reports each one.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource'))
      errors.push(message.text());
  });
  page.on('request', (request) => {
    if (!/^(http:\/\/127\.0\.0\.1:\d+\/|blob:|data:|file:)/.test(request.url()))
      errors.push(`asked ${request.url()}`);
  });
}

/** Opens a pane by its address. */
export async function open(page: Page, link: string, hash = ''): Promise<void> {
  await page.goto(link);
  await expect(page.getByRole('navigation')).toBeVisible();
  if (hash) await page.evaluate((to) => location.assign(to), hash);
}

/** Hides the page as another tab before it does, or shows it again. */
export async function hide(page: Page, hidden: boolean): Promise<void> {
  await page.evaluate((to) => {
    Object.defineProperty(document, 'hidden', { value: to, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
}

/** The page is usable without seeing it, as far as a program can tell. */
export async function accessible(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)).toEqual([]);
}
