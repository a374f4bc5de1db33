// Runs Schemathesis over the contract that a local system of its own serves.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { startLocal } from '../support/local.js';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const SCHEMATHESIS = fileURLToPath(new URL('.venv/bin/schemathesis', import.meta.url));

// Both transports, mails with links to two pages, and no budget that thousands of requests would exceed.
const variables = {
  REFRESH_TOKEN_TRANSPORT: 'both',
  REFRESH_BURST: '1000000',
  LIMIT_MAIL_REQUESTS_PER_ADDRESS: '1000000',
  LIMIT_LINKS_PER_ADDRESS: '1000000',
  RESET_URL: 'https://app.example.com/reset',
  CONFIRM_URL: 'https://app.example.com/confirm',
};
const local = await startLocal({ variables });
const run = ['--config-file', 'schemathesis.toml', 'run', `${local.url}/openapi.json`, ...process.argv.slice(2)];
const env = { ...process.env, ORIGIN: local.url, PYTHONDONTWRITEBYTECODE: '1' };
const [code] = await once(spawn(SCHEMATHESIS, run, { cwd: HERE, env, stdio: 'inherit' }), 'exit');
await local.stop();
process.exitCode = code ?? 1;
