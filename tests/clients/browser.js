// As much of a browser as the scripts of the docs need.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

/** The examples in JavaScript on a page of docs/, in order. */
export function examples(page) {
  const text = readFileSync(new URL(`../../docs/${page}`, import.meta.url), 'utf8');
  return text.split('```js\n').slice(1).map((block) => block.split('```')[0]);
}

/** A page with a script in it, which sees these globals; gives what the script calls by these names. */
export function tab(script, globals, names) {
  const body = `${script}\nreturn { ${names.join(', ')} };`;
  return new Function(...Object.keys(globals), body)(...Object.values(globals));
}

/** localStorage. */
export function storage() {
  const items = new Map();
  return {
    getItem: (name) => items.get(name) ?? null,
    setItem: (name, value) => items.set(name, value),
    removeItem: (name) => items.delete(name),
  };
}

/** navigator.locks: one holder of a name at a time, the others in the order in which they came. */
export function locks() {
  const last = new Map();
  return {
    request(name, callback) {
      const held = (last.get(name) ?? Promise.resolve()).then(callback);
      last.set(name, held.catch(() => {}));
      return held;
    },
  };
}

/** fetch for the pages of an origin, with a jar of cookies that they do not see. */
export function withCookies(jar, origin, fetch) {
  return async (url, options = {}) => {
    const isIncluded = options.credentials === 'include';
    const headers = { ...options.headers, origin };
    if (isIncluded && jar.size > 0) headers.cookie = [...jar].map((pair) => pair.join('=')).join('; ');
    const answer = await fetch(url, { ...options, headers });
    for (const line of isIncluded ? answer.headers.getSetCookie() : []) {
      const cookie = /^(__Host-\w+)=([^;]*); HttpOnly; Secure; SameSite=Strict; Path=\/; Max-Age=(\d+)$/.exec(line);
      assert.ok(cookie, 'a cookie is what the docs say');
      const [, name, value, seconds] = cookie;
      if (seconds === '0') jar.delete(name);
      else jar.set(name, value);
    }
    return answer;
  };
}

/** An answer did not arrive. */
export class Lost extends Error {}

/** Whether an answer brings new tokens. */
export function brings(url, answer) {
  return answer.ok && (url.endsWith('/refresh') || answer.headers.has('x-new-refresh-token'));
}

/** fetch, where the answers that bring new tokens get lost now and then. */
export function lossy(random, lost) {
  return async (url, options) => {
    const answer = await fetch(url, options);
    if (brings(url, answer) && random() < 0.3) {
      lost.count++;
      throw new Lost();
    }
    return answer;
  };
}

/** The outcome of a call that is made again while its answers get lost. */
export async function untilAnswered(call) {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
    }
  }
}
