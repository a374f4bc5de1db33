// @vitest-environment happy-dom

import { afterEach, expect, test, vi } from 'vitest';

import { takeLinkToken } from '../src/index.js';

const TOKEN = 'Zk3_-'.repeat(8) + 'abc';

afterEach(() => {
  vi.unstubAllGlobals();
});

test.each(['/reset', '/reset?lang=de', '//reset', '/app#/reset'])(
  'the token of a link to %s is returned once, and leaves the address bar at once',
  (page) => {
    history.pushState({ router: 1 }, '', `${location.origin}${page}#token=${TOKEN}`);
    const { length } = history;
    expect(takeLinkToken()).toBe(TOKEN);
    expect(location.href).toBe(location.origin + page);
    expect(history.length).toBe(length);
    expect(history.state).toEqual({ router: 1 });
    expect(takeLinkToken()).toBeNull();
  },
);

test.each(['/reset', '/reset#top', '/reset?token=abc'])('a page at %s has no token, and keeps its address', (page) => {
  history.pushState(null, '', location.origin + page);
  expect(takeLinkToken()).toBeNull();
  expect(location.href).toBe(location.origin + page);
});

test('an empty token is none', () => {
  history.pushState(null, '', `${location.origin}/reset#token=`);
  expect(takeLinkToken()).toBeNull();
  expect(location.href).toBe(`${location.origin}/reset`);
});

test('without a page there is no token', () => {
  vi.stubGlobal('location', undefined);
  expect(takeLinkToken()).toBeNull();
});
