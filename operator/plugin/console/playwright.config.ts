import { defineConfig } from '@playwright/test';

// CI has no GPU: what is measured is measured without one.
export default defineConfig({
  testDir: process.env.FLEETPROF_CONSOLE_TESTS ?? 'test/browser',
  outputDir: process.env.FLEETPROF_CONSOLE_OUT ?? '../../../target/console',
  workers: 1,
  timeout: 30_000,
  // A browser beside a compiler is sometimes late. The list says which test needed another try.
  retries: 2,
  expect: { timeout: 8_000 },
  reporter: [['list']],
  use: {
    browserName: 'chromium',
    viewport: { width: 1600, height: 1000 },
    screenshot: 'only-on-failure',
    launchOptions: {
      executablePath: process.env.FLEETPROF_CHROMIUM ?? '/usr/bin/chromium',
      args: ['--disable-gpu', '--no-sandbox'],
    },
  },
});
