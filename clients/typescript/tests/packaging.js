// The package as it is published: packed, and installed in empty projects with the oldest and the newest peers, where the
// README's own code is compiled and run against the real system. Needs the registry.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';

import { startLocal } from '../../../tests/support/local.js';

const HERE = import.meta.dirname;
const PACKAGE = join(HERE, '..');
const ROOT = join(PACKAGE, '../..');
const TSC = join(PACKAGE, 'node_modules/.bin/tsc');
const ADA = { email: 'ada@example.com', password: 'correct horse battery' };

const PEERS = {
  oldest: ['axios@1.7.0', 'react@18.0.0', 'react-dom@18.0.0', '@types/react@18.3.8', '@types/react-dom@18.3.7'],
  newest: ['axios@1.21.1', 'react@19.3.1', 'react-dom@19.3.1', '@types/react@19.3.0', '@types/react-dom@19.3.0'],
};

let local;
let packed;
const folders = [];

/** Runs a program and returns what it printed. If it fails, the error contains what it printed. */
async function run(folder, ...command) {
  const [program, ...args] = command;
  const options = { cwd: folder, maxBuffer: 1e8, timeout: 300_000 };
  const { stdout } = await promisify(execFile)(program, args, options).catch((error) => {
    throw new Error(`${command.join(' ')}: ${error.stdout}${error.stderr}`);
  });
  return stdout;
}

async function newFolder() {
  const folder = await mkdtemp(join(tmpdir(), 'freshkey-'));
  folders.push(folder);
  return folder;
}

/** A project with the package and these other packages. */
async function project(...peers) {
  const folder = await newFolder();
  await writeFile(join(folder, 'package.json'), '{ "private": true, "type": "module" }');
  await run(
    folder,
    'npm',
    'install',
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
    '--ignore-scripts',
    packed,
    ...peers,
  );
  return folder;
}

/** The README's code in a language, with the address of our system. */
async function codeOf(language) {
  const text = await readFile(join(PACKAGE, 'README.md'), 'utf8');
  const blocks = text.split(`\`\`\`${language}\n`).slice(1);
  return blocks.map((block) => block.split('```')[0].replaceAll('http://127.0.0.1:3000', local.url));
}

before(async () => {
  const folder = await newFolder();
  const [{ filename }] = JSON.parse(
    await run(PACKAGE, 'npm', 'pack', '--json', '--silent', '--pack-destination', folder),
  );
  packed = join(folder, filename);
  local = await startLocal();
});

after(async () => {
  await local?.stop();
  await Promise.all(folders.map((folder) => rm(folder, { recursive: true })));
});

/** Creates ada, unless an earlier test has done so. */
async function register() {
  const headers = { 'content-type': 'application/json' };
  const { status } = await fetch(`${local.url}/api/v1/auth/register`, {
    method: 'POST',
    headers,
    body: JSON.stringify(ADA),
  });
  assert.ok([201, 409].includes(status), `${status}`);
}

test('the package alone runs the README’s first lines', async () => {
  const folder = await project();
  assert.deepEqual(await readdir(join(folder, 'node_modules')), ['.package-lock.json', '@freshkey']);
  const [first] = await codeOf('js');
  const email = `${crypto.randomUUID()}@example.com`;
  await writeFile(join(folder, 'first.js'), first.replace(ADA.email, email));
  assert.equal(await run(folder, process.execPath, 'first.js'), `Hello, ${email}\n`);
});

test('the README’s lines install the package from a clone next to the app', async () => {
  const folder = await newFolder();
  const [clone, app] = [join(folder, 'freshkey'), join(folder, 'app')];
  const isSource = (path) => !/\/(node_modules|dist|target)$/.test(path);
  await cp(PACKAGE, join(clone, 'clients/typescript'), { recursive: true, filter: isSource });
  for (const name of await readdir(ROOT)) {
    if (name.startsWith('LICENSE-')) await cp(join(ROOT, name), join(clone, name));
  }
  await mkdir(app);
  await writeFile(join(app, 'package.json'), '{ "private": true, "type": "module" }');
  const [lines] = await codeOf('sh');
  await run(app, 'sh', '-euc', lines);
  const script = `import('@freshkey/client').then(({ createClient }) => console.log(typeof createClient))`;
  assert.equal(await run(app, process.execPath, '--eval', script), 'function\n');
});

test('the metadata says where in which repository the package is', async () => {
  const { repository } = JSON.parse(await readFile(join(PACKAGE, 'package.json'), 'utf8'));
  assert.match(repository.url, /^git\+https:\/\/.+\/freshkey\.git$/);
  assert.deepEqual(
    await readFile(join(ROOT, repository.directory, 'README.md')),
    await readFile(join(PACKAGE, 'README.md')),
  );
});

test('the package holds its build, its README and nothing else', async () => {
  const folder = await project();
  const files = await readdir(join(folder, 'node_modules/@freshkey/client'));
  assert.deepEqual(files.sort(), ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'dist', 'package.json']);
});

for (const [which, peers] of Object.entries(PEERS)) {
  describe(`with the ${which} peers`, () => {
    let folder;

    before(async () => {
      folder = await project(...peers);
      await register();
    });

    test('all of the README’s code compiles', async () => {
      const [first, axios] = await codeOf('js');
      const imports = first.split('\n\n')[0];
      const modules = [first, axios, ...(await codeOf('ts'))].map((code) =>
        /^import /m.test(code) ? code : `${imports}\n${code}`,
      );
      const files = [...modules.entries()].map(([n, code]) => [`block${n}.ts`, untyped(code)]);
      const [page] = await codeOf('tsx');
      files.push(['page.tsx', page]);
      for (const [name, code] of files) await writeFile(join(folder, name), code);
      const options = '--strict --target es2022 --module nodenext --lib es2022,dom --types react-dom --jsx react-jsx';
      await run(folder, TSC, ...options.split(' '), '--outDir', 'built', ...files.map(([name]) => name));
    });

    test('axios’ lines run', async () => {
      const [, axios] = await codeOf('js');
      await writeFile(join(folder, 'axios.js'), axios);
      assert.equal(await run(folder, process.execPath, 'axios.js'), `Hello, ${ADA.email}\n`);
    });

    test('React’s lines run: the button signs in and out', async () => {
      const [page] = await codeOf('tsx');
      await writeFile(join(folder, 'app.tsx'), page);
      const options = '--noCheck --target es2022 --module nodenext --jsx react-jsx';
      await run(folder, TSC, ...options.split(' '), '--outDir', '.', 'app.tsx');
      await cp(join(HERE, 'packaging.page.js'), join(folder, 'page.js'));
      const dom = import.meta.resolve('happy-dom');
      const seen = JSON.parse(await run(folder, process.execPath, 'page.js', dom));
      assert.deepEqual(seen, ['Sign in', `Sign ${ADA.email} out`, 'Sign in']);
    });
  });
}

/** The README's JavaScript as TypeScript, where the answer to `get` needs a type. */
function untyped(code) {
  return code.replace(".get('/api", ".get<{ email: string }>('/api");
}
