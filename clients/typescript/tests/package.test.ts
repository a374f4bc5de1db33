import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';

const run = promisify(execFile);
const root = join(import.meta.dirname, '..');
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'freshkey-'));
});
afterAll(() => rm(folder, { recursive: true }));

test('the packed package can be installed, imported in Node, and type-checked', async () => {
  const packed = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root });
  const [{ filename, files }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf('[\n')));
  const names = files.map(({ path }: { path: string }) => path);
  expect(names).toEqual(expect.arrayContaining(['package.json', 'dist/index.js', 'dist/index.d.ts']));
  expect(names.filter((name: string) => /^(src|tests)\//.test(name))).toEqual([]);

  await writeFile(join(folder, 'package.json'), '{"private":true,"type":"module"}');
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', join(folder, filename)], { cwd: folder });
  await writeFile(
    join(folder, 'app.ts'),
    `import { ApiClient, FreshkeyError, TokenManager, type Tokens } from '@freshkey/client';
const tokens: TokenManager = new TokenManager('http://127.0.0.1:1', { storage: 'localStorage' });
const held: Tokens | null = tokens.getTokens();
const failed = await new ApiClient('http://127.0.0.1:1', tokens).me().catch((error: unknown) => error);
console.log(held, failed instanceof FreshkeyError && failed.code);
`,
  );
  const options = ['--noEmit', '--strict', '--module', 'NodeNext', '--target', 'ES2022', '--types', '', 'app.ts'];
  await run(join(root, 'node_modules/.bin/tsc'), options, { cwd: folder });
  await build({ entryPoints: [join(folder, 'app.ts')], outfile: join(folder, 'app.js'), format: 'esm' });
  const { stdout } = await run('node', ['app.js'], { cwd: folder });
  expect(stdout).toBe('null network\n');
}, 120_000);

test('the bundle of a page stays small', async () => {
  const options = { bundle: true, minify: true, format: 'esm', target: 'es2022', write: false } as const;
  const { outputFiles } = await build({ ...options, entryPoints: [join(root, 'src/index.ts')] });
  expect(outputFiles[0]!.contents.length).toBeLessThan(18_500);
});
