// What the types say; `npm run lint` checks them.

import { expectTypeOf, test } from 'vitest';

import {
  ApiClient,
  TokenManager,
  createClient,
  type Dialect,
  type LexikLoginAnswer,
  type LoginAnswer,
  type TokenManagerOptions,
  type V1LoginAnswer,
} from '../src/index.js';

const url = 'https://api.example.com';

test('the answer to a login has the type of the dialect', () => {
  type Login<T extends { login(...credentials: never[]): unknown }> = Awaited<ReturnType<T['login']>>;

  const v1 = createClient(url, { storage: 'memory' });
  expectTypeOf<Login<typeof v1>>().toEqualTypeOf<V1LoginAnswer>();
  expectTypeOf<V1LoginAnswer['access_token']>().toEqualTypeOf<string>();
  expectTypeOf<V1LoginAnswer>().not.toHaveProperty('token');
  expectTypeOf<V1LoginAnswer>().not.toHaveProperty('user');

  const lexik = createClient(url, { dialect: 'lexik' });
  expectTypeOf<Login<typeof lexik>>().toEqualTypeOf<LexikLoginAnswer>();
  expectTypeOf<LexikLoginAnswer['token']>().toEqualTypeOf<string>();
  expectTypeOf<LexikLoginAnswer['device_token']>().toEqualTypeOf<string | undefined>();
  expectTypeOf<LexikLoginAnswer>().not.toHaveProperty('access_token');

  expectTypeOf<Awaited<ReturnType<typeof lexik.register>>>().toEqualTypeOf<V1LoginAnswer>();
  expectTypeOf<LoginAnswer>().toEqualTypeOf<V1LoginAnswer | LexikLoginAnswer>();
});

test('a client of either dialect is one of any dialect', () => {
  expectTypeOf(new TokenManager(url)).toEqualTypeOf<TokenManager<'v1'>>();
  expectTypeOf<TokenManager<'lexik'>>().toExtend<TokenManager<Dialect>>();
  expectTypeOf<ApiClient<'lexik'>>().toExtend<ApiClient<Dialect>>();
  expectTypeOf<ApiClient>().toExtend<ApiClient<Dialect>>();
});

test('headerRefresh is an option of the token manager', () => {
  expectTypeOf<TokenManagerOptions>().toHaveProperty('headerRefresh');
  expectTypeOf<NonNullable<ConstructorParameters<typeof ApiClient>[2]>>().not.toHaveProperty('headerRefresh');
});
