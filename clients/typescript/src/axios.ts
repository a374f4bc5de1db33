// Tokens for an axios instance that the app already has. This module imports only types from axios.

import type { AxiosHeaders, AxiosInstance, AxiosResponse, InternalAxiosRequestConfig } from 'axios';

import { isStream } from './http.js';
import type { Authorization, Dialect, TokenManager } from './tokens.js';

/** Marks a call that has our headers. axios and other interceptors copy the mark, and a new request does not have it. */
const SENT = Symbol('sent');

interface Marked extends InternalAxiosRequestConfig {
  /** What was added to the call, and the call as it was before. */
  [SENT]?: { authorization: Authorization; call: InternalAxiosRequestConfig };
}

/**
 * Authorises the calls of an axios instance as `ApiClient` does its own: the access token is refreshed before it
 * expires, once for all calls, and a call that is answered with 401 is repeated once (unless its body is a stream, which
 * cannot be sent twice).
 *
 * Tokens are sent only to the host of the instance's `baseURL`, or of the token manager's if the instance has none. A
 * call that has its own `Authorization` header or `auth` is left alone.
 *
 * Calls fail with axios' own errors, and with FreshkeyError if the access token has expired and could not be refreshed.
 *
 * @returns a function that detaches the interceptors.
 * @throws TypeError if the runtime's `URL` cannot tell a host, as in older versions of React Native.
 */
export function attach(instance: AxiosInstance, tokenManager: TokenManager<Dialect>): () => void {
  if (!hostOf('https://api.example.com')) {
    throw new TypeError('This runtime lacks URL.host. Load a polyfill before you call attach().');
  }
  const { request, response } = instance.interceptors;

  const onRequest = request.use(async (config) => {
    const api = hostOf(instance.defaults.baseURL || tokenManager.baseUrl);
    const isOurs = api !== undefined && hostOf(instance.getUri(config)) === api;
    if (!isOurs || config.auth || config.headers.has('Authorization')) return config;
    const authorization = await tokenManager.authorize();
    const headers = config.headers.concat(authorization.headers);
    // A redirect to another host would carry along every header except Authorization.
    const limits = headers.has('x-refresh-token') && { maxRedirects: 0 };
    return { ...config, headers, ...limits, [SENT]: { authorization, call: config } };
  });

  /** Returns the answer to the second try if there is one, and otherwise the answer to the first. */
  async function settle(answer: AxiosResponse): Promise<AxiosResponse> {
    const sent = (answer.config as Marked)[SENT];
    if (!sent) return answer;
    const { authorization, call } = sent;
    const headers = { get: (name: string) => (answer.headers as AxiosHeaders).get(name) as string | null };
    const isRepeated = await tokenManager.settle(authorization, { status: answer.status, headers });
    if (!isRepeated || isReadOnce(call.data)) return answer;
    // The second try has an Authorization header, so the interceptor leaves it alone and its answer is final.
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

/** The scheme, host and port of a URL, which may be relative in a page; `undefined` if it is not a URL. */
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
