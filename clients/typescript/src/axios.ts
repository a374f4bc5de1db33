// The tokens, for an axios instance that an app has already. Nothing of axios is loaded from here: types alone.

import type { AxiosHeaders, AxiosInstance, AxiosResponse, InternalAxiosRequestConfig } from 'axios';

import { isStream } from './http.js';
import type { Authorization, TokenManager } from './tokens.js';

/** Marks a call that left with our headers; axios and other interceptors copy it along, and drop it in a new request. */
const SENT = Symbol('sent');

interface Marked extends InternalAxiosRequestConfig {
  /** What it left with, and what it was without. */
  [SENT]?: { authorization: Authorization; call: InternalAxiosRequestConfig };
}

/**
 * Authorises the calls of an axios instance as `ApiClient` does its own: the access token is refreshed before it
 * expires, once for however many calls, and a call that is answered with 401 is sent once more (unless its body is a
 * stream, which cannot be sent twice).
 *
 * Tokens go to the host of the instance's `baseURL`, or of the token manager's where it has none, and to no other. A
 * call with an `Authorization` header or `auth` of its own is left alone.
 *
 * Calls fail as ever, and with FreshkeyError where the access token has expired and could not be refreshed.
 *
 * @returns what detaches it again.
 */
export function attach(instance: AxiosInstance, tokenManager: TokenManager): () => void {
  const { request, response } = instance.interceptors;

  const onRequest = request.use(async (config) => {
    const api = hostOf(instance.defaults.baseURL || tokenManager.baseUrl);
    const isOurs = api !== undefined && hostOf(instance.getUri(config)) === api;
    if (!isOurs || config.auth || config.headers.has('Authorization')) return config;
    const authorization = await tokenManager.authorize();
    const headers = config.headers.concat(authorization.headers);
    // A redirect takes every header along, but for Authorization, to whatever host it leads to.
    const limits = headers.has('x-refresh-token') && { maxRedirects: 0 };
    return { ...config, headers, ...limits, [SENT]: { authorization, call: config } };
  });

  /** The answer to the second try; to the first, where there is none. */
  async function settle(answer: AxiosResponse): Promise<AxiosResponse> {
    const sent = (answer.config as Marked)[SENT];
    if (!sent) return answer;
    const { authorization, call } = sent;
    const headers = { get: (name: string) => (answer.headers as AxiosHeaders).get(name) as string | null };
    const isRepeated = await tokenManager.settle(authorization, { status: answer.status, headers });
    if (!isRepeated || isReadOnce(call.data)) return answer;
    // The second try has an Authorization already: whatever comes of it is the answer.
    const again = await tokenManager.authorize();
    return instance.request({ ...call, headers: call.headers.concat(again.headers) });
  }

  const onResponse = response.use(settle, async (error: { response?: AxiosResponse }) => {
    const answer = error.response && (await settle(error.response));
    if (answer === error.response) throw error;
    return answer;
  });

  return () => {
    request.eject(onRequest);
    response.eject(onResponse);
  };
}

/** Scheme, host and port of an address, which in a page may be a relative one; `undefined` if it is none. */
function hostOf(url: string): string | undefined {
  try {
    const { protocol, host } = new URL(url, globalThis.location?.href);
    return `${protocol}//${host}`;
  } catch {
    return undefined;
  }
}

/** Whether a body can be read only once. */
function isReadOnce(body: unknown): boolean {
  return isStream(body) || typeof (body as { pipe?: unknown } | null | undefined)?.pipe === 'function';
}
