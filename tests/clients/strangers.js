// Clients as people write them who do not know this system: no Idempotency-Key,
// and the habits of their trade.

import axios from 'axios';

/** The words of the two kinds of backend. */
export const DIALECTS = {
  v1: { login: '/api/v1/auth/login', refresh: '/api/v1/auth/refresh', access: 'access_token' },
  lexik: { login: '/api/auth', refresh: '/api/token/refresh', access: 'token' },
};

/** The user must log in again. */
export class SignedOut extends Error {}

/** What all clients over fetch have in common. */
class Fetching {
  constructor(url, dialect) {
    this.url = url;
    this.dialect = dialect;
  }

  async login(email, password) {
    const answer = await this.post(this.dialect.login, { email, password });
    if (!answer.ok) throw new Error(`login: ${answer.status}`);
    this.keep(await answer.json());
  }

  /** The user, by a call that is made again after a refresh. */
  async me() {
    let answer = await this.getMe();
    if (answer.status === 401) {
      await this.refresh();
      answer = await this.getMe();
    }
    if (!answer.ok) throw new Error(`users/me: ${answer.status}`);
    return answer.json();
  }

  getMe() {
    return fetch(`${this.url}/api/v1/users/me`, { headers: { authorization: `Bearer ${this.accessToken}` } });
  }

  post(path, body) {
    const headers = { 'content-type': 'application/json' };
    return fetch(this.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  }

  async rotate() {
    const answer = await this.post(this.dialect.refresh, { refresh_token: this.refreshToken });
    if (answer.status === 400 || answer.status === 401) throw new SignedOut(await answer.text());
    if (!answer.ok) throw new Error(`refresh: ${answer.status}`);
    this.keep(await answer.json());
  }

  keep(tokens) {
    this.accessToken = tokens[this.dialect.access];
    this.refreshToken = tokens.refresh_token;
  }
}

/** Each call that gets a 401 refreshes for itself. */
export class NaiveFetch extends Fetching {
  refresh() {
    return this.rotate();
  }
}

/** Calls that get a 401 at the same time wait for one refresh. */
export class SingleFlightFetch extends Fetching {
  refresh() {
    this.flight ??= this.rotate().finally(() => {
      this.flight = undefined;
    });
    return this.flight;
  }
}

/** The usual interceptor: one refresh, and a queue of those that wait for it. */
export class QueueingAxios {
  constructor(url, dialect) {
    this.dialect = dialect;
    this.plain = axios.create({ baseURL: url });
    this.api = axios.create({ baseURL: url });
    this.api.interceptors.request.use((config) => {
      config.headers.Authorization = `Bearer ${this.accessToken}`;
      return config;
    });
    let isRefreshing = false;
    let waiting = [];
    this.api.interceptors.response.use(undefined, async (error) => {
      const request = error.config;
      if (error.response?.status !== 401 || request.isRetry) throw error;
      request.isRetry = true;
      if (isRefreshing) {
        await new Promise((resolve, reject) => waiting.push({ resolve, reject }));
        return this.api(request);
      }
      isRefreshing = true;
      try {
        await this.refresh();
        waiting.forEach(({ resolve }) => resolve());
      } catch (failure) {
        waiting.forEach(({ reject }) => reject(failure));
        throw failure;
      } finally {
        waiting = [];
        isRefreshing = false;
      }
      return this.api(request);
    });
  }

  async login(email, password) {
    this.keep((await this.plain.post(this.dialect.login, { email, password })).data);
  }

  async me() {
    return (await this.api.get('/api/v1/users/me')).data;
  }

  async refresh() {
    try {
      this.keep((await this.plain.post(this.dialect.refresh, { refresh_token: this.refreshToken })).data);
    } catch (error) {
      if ([400, 401].includes(error.response?.status)) throw new SignedOut(JSON.stringify(error.response.data));
      throw error;
    }
  }

  keep(tokens) {
    this.accessToken = tokens[this.dialect.access];
    this.refreshToken = tokens.refresh_token;
  }
}
