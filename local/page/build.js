// Builds dist/index.html from src/ and the client's sources: one file that loads
// nothing else. The local system embeds it. With `--check`, compares it with the
// file that is there instead of writing it.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { build } from 'esbuild';

const LIMIT = 100_000; // bytes, of the whole page

const here = (path) => new URL(path, import.meta.url);
const bundle = async (entry) => {
  const result = await build({
    entryPoints: [entry],
    absWorkingDir: import.meta.dirname,
    bundle: true,
    minify: true,
    write: false,
    charset: 'utf8',
    format: 'iife',
    target: 'es2022',
    legalComments: 'none',
  });
  return result.outputFiles[0].text.trim();
};

async function page() {
  const [template, style, script] = await Promise.all([
    readFile(here('src/index.html'), 'utf8'),
    bundle('src/style.css'),
    bundle('src/main.ts'),
  ]);
  // Functions, because `$` is special in a replacement string.
  return template
    .replace(/<!--.*?-->\s*/gs, '')
    .replace(/\n\s+/g, '\n')
    .replace('<style></style>', () => `<style>${style}</style>`)
    .replace('<script></script>', () => `<script>${script}</script>`);
}

const made = await page();
const size = Buffer.byteLength(made);
if (size >= LIMIT) throw new Error(`The page has ${size} bytes; the limit is ${LIMIT}.`);
if (process.argv.includes('--check')) {
  const kept = await readFile(here('dist/index.html'), 'utf8').catch(() => '');
  if (kept !== made) throw new Error('dist/index.html is out of date: run `npm run build`.');
} else {
  await mkdir(here('dist'), { recursive: true });
  await writeFile(here('dist/index.html'), made);
}
console.log(`dist/index.html: ${size} bytes.`);
