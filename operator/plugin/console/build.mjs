// Builds the page: three files in dist/, equal byte for byte wherever they are built.
//   node build.mjs [--watch] [--out FOLDER]
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const option = (name) => process.argv[process.argv.indexOf(name) + 1];
const out = process.argv.includes('--out') ? option('--out') : here('dist');

// The licence of Preact asks for its text in every copy.
const licence = async (name) => (await readFile(here(`node_modules/${name}/LICENSE`), 'utf8')).trim();
const notices = `/*! Contains preact and @preact/signals.\n\n${await licence('preact')}\n\n${await licence('@preact/signals')}\n*/`;

const options = {
  absWorkingDir: here('.'),
  entryPoints: { app: here('src/main.tsx'), style: here('src/style.css') },
  outdir: out,
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['es2022'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  charset: 'ascii',
  legalComments: 'none',
  banner: { js: notices },
  logLevel: 'warning',
};
await mkdir(out, { recursive: true });
await copyFile(here('src/index.html'), `${out}/index.html`);
if (process.argv.includes('--watch')) await (await esbuild.context(options)).watch();
else await esbuild.build(options);
