// Bundles the tests and runs them: node alone does not read TypeScript in every version that is supported.
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const out = await mkdtemp(join(tmpdir(), 'fleetprof-console-'));
const entryPoints = (await readdir(here))
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => join(here, name));
await esbuild.build({
  entryPoints,
  outdir: out,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  format: 'esm',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  sourcemap: 'inline',
  logLevel: 'warning',
});
const files = (await readdir(out)).map((name) => join(out, name));
const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test', ...files], {
  cwd: join(here, '..'),
  stdio: 'inherit',
});
await rm(out, { recursive: true });
process.exit(status ?? 1);
