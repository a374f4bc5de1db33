"""The clients: what carries out the operations of the core, with threads and with asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from importlib.metadata import version
from types import TracebackType
from typing import Any, Generic, TypeVar

import httpx

from ._core import Core, Dialect, Outcome, Session, SignedOutReason, Steps, User
from ._storage import MemoryStorage, Storage
from ._tokens import Tokens

Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)
T = TypeVar("T")

_DEFAULTS: dict[str, Any] = {
    "timeout": 10.0,
    "headers": {"user-agent": f"freshkey-python/{version('freshkey')}"},
}


class _Client(Generic[Http]):
    """What the two clients have in common: all that needs no network."""

    def __init__(
        self,
        http: Http,
        is_own: bool,
        base_url: str,
        dialect: Dialect,
        storage: Storage | None,
        on_tokens: Callable[[Tokens], object] | None,
        on_signed_out: Callable[[SignedOutReason], object] | None,
        origins: Iterable[str],
    ) -> None:
        self._http: Http = http
        self._is_own = is_own
        self._core = Core(
            base_url,
            http.build_request,
            dialect,
            MemoryStorage() if storage is None else storage,
            on_tokens,
            on_signed_out,
            origins,
        )

    @property
    def is_signed_in(self) -> bool:
        """Whether there is a session. The server may have ended it: the next refresh finds out."""
        return self._core.is_signed_in()

    def set_tokens(self, access_token: str, refresh_token: str, expires_in: float | None = None) -> None:
        """Takes over a session that other code began; `expires_in` is in seconds, and may be left out.

        From now on the refresh token belongs to this client: if the other code presents it as well,
        that is reuse, and the session ends.
        """
        self._core.set_tokens(access_token, refresh_token, expires_in)

    def check_origin(self, url: str | httpx.URL) -> None:
        """Raises ValueError unless the access token may be sent to this URL."""
        self._core.check_origin(url)


class AuthClient(_Client[httpx.Client]):
    """Signs in, keeps the tokens fresh and makes calls with them. Threads may share it.

    However many threads and processes need a refresh at once, one of them makes it and the others
    use what it got. Operations raise `FreshkeyError`; `SignedOut` is the one that means: log in again.
    """

    def __init__(
        self,
        base_url: str,
        *,
        dialect: Dialect = "v1",
        storage: Storage | None = None,
        on_tokens: Callable[[Tokens], object] | None = None,
        on_signed_out: Callable[[SignedOutReason], object] | None = None,
        origins: Iterable[str] = (),
        http: httpx.Client | None = None,
    ) -> None:
        """A client of the API at `base_url`.

        - `dialect`: `lexik` for a backend whose answers are LexikJWTAuthenticationBundle's.
        - `storage`: where the tokens are kept; in memory, unless it is a `FileStorage` or your own.
        - `on_tokens` is called with new tokens, and `on_signed_out` with the reason.
        - `origins`: further origins that the access token may be sent to.
        - `http`: an httpx client of your own, for proxies, certificates and timeouts; you close it.
        """
        own = http or httpx.Client(**_DEFAULTS)
        super().__init__(own, http is None, base_url, dialect, storage, on_tokens, on_signed_out, origins)
        self._flight = threading.Lock()
        self._auth = BearerAuth(self)

    def login(self, email: str, password: str) -> str:
        """Logs in and gives the user's id. A wrong password is the code `invalid_credentials`."""
        return self._run(self._core.login(email, password))

    def register(self, email: str, password: str, **profile: str | None) -> str:
        """Makes a user, who is signed in at once, and gives the user's id.

        `profile` is any of first_name, last_name, phone, user_type and avatar.
        """
        return self._run(self._core.register(email, password, profile))

    def access_token(self, refused: str | None = None) -> str:
        """An access token to make a call with: refreshed, if the one that is held expires soon, has
        expired, or is the one that a server has just `refused`."""
        flight = self._core.flights
        token = self._core.usable(refused)
        if token is None:
            with self._flight:
                token = self._run(self._core.refresh(refused, flight))
        return token

    def refresh_access_token(self) -> str:
        """Refreshes now, whether that is due or not, and gives the new access token."""
        return self.access_token(refused=self._core.tokens().access_token)

    def logout(self) -> bool:
        """Forgets the session here, and ends it at the server; False if the server could not be told."""
        return self._run(self._core.logout())

    def authenticated_request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a call with the access token, and gives the answer whatever its status.

        It refreshes ahead of the expiry, and once more after a 401. GET and HEAD are repeated while
        no answer comes, and after 429 and 5xx. `path` begins with a slash, or is a URL of the API's
        origin or one of `origins`; `kwargs` are those of `httpx.Client.build_request`.
        """
        request = self._http.build_request(method, self._core.url(path), **kwargs)
        return self._run(self._core.call(request), self._auth)

    def me(self) -> User:
        """The user."""
        return self._run(self._core.me(), self._auth)

    def change_password(self, current_password: str, new_password: str) -> None:
        """Changes the password, which ends the user's other sessions."""
        self._run(self._core.change_password(current_password, new_password), self._auth)

    def sessions(self) -> list[Session]:
        """Where the user is signed in; this session has `current`."""
        return self._run(self._core.sessions(), self._auth)

    def revoke_session(self, session_id: str) -> None:
        """Ends one of the user's sessions."""
        self._run(self._core.revoke_session(session_id), self._auth)

    def logout_everywhere(self, except_current: bool = False) -> None:
        """Ends all of the user's sessions, this one too unless it is excepted."""
        self._run(self._core.logout_everywhere(except_current), self._auth)

    def close(self) -> None:
        """Closes the connections. The session stays in its storage."""
        if self._is_own:
            self._http.close()

    def __enter__(self) -> AuthClient:
        """The client itself."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Closes the connections."""
        self.close()

    def _run(self, steps: Steps[T], auth: httpx.Auth | None = None) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = None
            if isinstance(step, httpx.Request):
                try:
                    outcome = self._http.send(step, auth=auth, follow_redirects=False)
                except httpx.RequestError as error:
                    outcome = error
            else:
                time.sleep(step)


class AsyncAuthClient(_Client[httpx.AsyncClient]):
    """`AuthClient` for asyncio: the same, to be awaited. Any number of tasks of one loop may share it.

    The callbacks are plain functions, and a storage is read and written without awaiting.
    """

    def __init__(
        self,
        base_url: str,
        *,
        dialect: Dialect = "v1",
        storage: Storage | None = None,
        on_tokens: Callable[[Tokens], object] | None = None,
        on_signed_out: Callable[[SignedOutReason], object] | None = None,
        origins: Iterable[str] = (),
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """A client of the API at `base_url`, with the options of `AuthClient`."""
        own = http or httpx.AsyncClient(**_DEFAULTS)
        super().__init__(own, http is None, base_url, dialect, storage, on_tokens, on_signed_out, origins)
        self._flight = asyncio.Lock()
        self._auth = AsyncBearerAuth(self)

    async def login(self, email: str, password: str) -> str:
        """See `AuthClient.login`."""
        return await self._run(self._core.login(email, password))

    async def register(self, email: str, password: str, **profile: str | None) -> str:
        """See `AuthClient.register`."""
        return await self._run(self._core.register(email, password, profile))

    async def access_token(self, refused: str | None = None) -> str:
        """See `AuthClient.access_token`."""
        flight = self._core.flights
        token = self._core.usable(refused)
        if token is None:
            async with self._flight:
                token = await self._run(self._core.refresh(refused, flight))
        return token

    async def refresh_access_token(self) -> str:
        """See `AuthClient.refresh_access_token`."""
        return await self.access_token(refused=self._core.tokens().access_token)

    async def logout(self) -> bool:
        """See `AuthClient.logout`."""
        return await self._run(self._core.logout())

    async def authenticated_request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """See `AuthClient.authenticated_request`."""
        request = self._http.build_request(method, self._core.url(path), **kwargs)
        return await self._run(self._core.call(request), self._auth)

    async def me(self) -> User:
        """See `AuthClient.me`."""
        return await self._run(self._core.me(), self._auth)

    async def change_password(self, current_password: str, new_password: str) -> None:
        """See `AuthClient.change_password`."""
        await self._run(self._core.change_password(current_password, new_password), self._auth)

    async def sessions(self) -> list[Session]:
        """See `AuthClient.sessions`."""
        return await self._run(self._core.sessions(), self._auth)

    async def revoke_session(self, session_id: str) -> None:
        """See `AuthClient.revoke_session`."""
        await self._run(self._core.revoke_session(session_id), self._auth)

    async def logout_everywhere(self, except_current: bool = False) -> None:
        """See `AuthClient.logout_everywhere`."""
        await self._run(self._core.logout_everywhere(except_current), self._auth)

    async def close(self) -> None:
        """See `AuthClient.close`."""
        if self._is_own:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncAuthClient:
        """The client itself."""
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Closes the connections."""
        await self.close()

    async def _run(self, steps: Steps[T], auth: httpx.Auth | None = None) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = None
            if isinstance(step, httpx.Request):
                try:
                    outcome = await self._http.send(step, auth=auth, follow_redirects=False)
                except httpx.RequestError as error:
                    outcome = error
            else:
                await asyncio.sleep(step)


class _Bearer(httpx.Auth):
    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """What httpx comes to when the two are mixed up."""
        raise TypeError("BearerAuth goes with httpx.Client, AsyncBearerAuth with httpx.AsyncClient.")


class BearerAuth(_Bearer):
    """Keeps the requests of an `httpx.Client` signed in: `httpx.Client(auth=BearerAuth(client))`.

    Each carries the access token (RFC 6750), refreshed ahead of its expiry and once after a 401. It
    goes to the API's origin and the client's `origins`; a request to another one raises ValueError
    before it leaves. The body of a request is read into memory, so that it can be repeated.
    """

    def __init__(self, client: AuthClient) -> None:
        """Signs in as this client."""
        self._client = client

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The request, and once more after a 401."""
        self._client.check_origin(request.url)
        request.read()
        token = self._client.access_token()
        response = yield _with(token, request)
        if response.status_code == 401:
            response.read()  # gives its connection back, which the refresh may need
            yield _with(self._client.access_token(refused=token), request)


class AsyncBearerAuth(_Bearer):
    """Keeps the requests of an `httpx.AsyncClient` signed in, as `BearerAuth` does those of a `Client`."""

    def __init__(self, client: AsyncAuthClient) -> None:
        """Signs in as this client."""
        self._client = client

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """The request, and once more after a 401."""
        self._client.check_origin(request.url)
        await request.aread()
        token = await self._client.access_token()
        response = yield _with(token, request)
        if response.status_code == 401:
            await response.aread()  # gives its connection back, which the refresh may need
            yield _with(await self._client.access_token(refused=token), request)


def _with(access_token: str, request: httpx.Request) -> httpx.Request:
    request.headers["authorization"] = f"Bearer {access_token}"
    return request
