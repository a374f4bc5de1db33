// Runs files of SQL in an empty PostgreSQL, and prints the rows of the last one
// as `psql -At` does.
//   node sql.js FILE...

import { readFileSync } from 'node:fs';

import { PGlite, types } from '@electric-sql/pglite';

const asText = (text) => text;
const parsers = { [types.JSON]: asText, [types.JSONB]: asText };
const database = new PGlite();
let results = [];
for (const file of process.argv.slice(2)) {
  results = await database.exec(readFileSync(file, 'utf8'), { rowMode: 'array', parsers });
}
for (const [text] of results.at(-1).rows) process.stdout.write(`${text}\n`);
await database.close();
