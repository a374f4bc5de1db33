// Refreshes until it is killed, and reports each refresh. Arguments: the address of the API, and the file of the session.

import { FreshkeyError, TokenManager } from '../src/index.js';
import { fileStorage } from './files.js';

const [url = '', path = ''] = process.argv.slice(2);
const tokens = new TokenManager(url, { storage: fileStorage(path) });

while (true) {
  try {
    await tokens.refreshTokens();
    process.send?.('rotated');
  } catch (error) {
    if (!(error instanceof FreshkeyError) || error.code !== 'network') {
      process.send?.(String(error));
      break;
    }
  }
}
