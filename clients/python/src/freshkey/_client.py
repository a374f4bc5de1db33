"""The clients: they carry out the steps of the core, with threads or with asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import closing, suppress
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, TypeVar

import httpx

from ._core import Core, Dialect, Session, SignedOutReason, Steps, User
from ._errors import FreshkeyError
from ._storage import MemoryStorage, Storage
from ._tokens import Tokens

T = TypeVar("T")

_DEFAULTS: dict[str, Any] = {
    "timeout": 10.0,
    "headers": {"user-agent": f"freshkey-python/{version('freshkey')}"},
}


class _Client:
    """The part of both clients that needs no network."""

    def __init__(
        self,
        base_url: str,
        build: Callable[..., httpx.Request],
        dialect: Dialect,
        storage: Storage | None,
        adopt_legacy_tokens: bool,
        on_tokens: Callable[[Tokens], object] | None,
        on_signed_out: Callable[[SignedOutReason], object] | None,
        origins: Iterable[str],
    ) -> None:
        storage = MemoryStorage() if storage is None else storage
        self._core = Core(
            base_url, build, dialect, storage, adopt_legacy_tokens, on_tokens, on_signed_out, origins
        )

    @property
    def is_signed_in(self) -> bool:
        """Whether the storage holds a session. Only a refresh finds out whether the server has ended it."""
        return self._core.is_signed_in()

    def check_origin(self, url: str | httpx.URL) -> None:
        """Raises ValueError unless the access token may be sent to this URL."""
        self._core.check_origin(url)


class AuthClient(_Client):
    """Signs in, keeps the tokens fresh and makes calls with them. Threads may share it.

    When several threads and processes need a refresh at the same time, one of them makes it and the
    others use the result. Operations raise `FreshkeyError`; `SignedOutError` means that the user must log
    in again.
    """

    def __init__(
        self,
        base_url: str,
        *,
        dialect: Dialect = "v1",
        storage: Storage | None = None,
        adopt_legacy_tokens: bool = False,
        on_tokens: Callable[[Tokens], object] | None = None,
        on_signed_out: Callable[[SignedOutReason], object] | None = None,
        origins: Iterable[str] = (),
        http: httpx.Client | None = None,
    ) -> None:
        """Creates a client of the API at `base_url`.

        - `dialect`: `lexik` for a backend whose answers are those of LexikJWTAuthenticationBundle.
        - `storage`: where the tokens are kept: in memory by default, a `FileStorage`, or your own.
        - `adopt_legacy_tokens`: takes over, once, tokens that older code stored without the API's URL.
        - `on_tokens` is called with new tokens, and `on_signed_out` with the reason.
        - `origins`: further origins that the access token may be sent to.
        - `http`: your own httpx client, for proxies, certificates and timeouts. You close it.
        """
        self._http = http or httpx.Client(**_DEFAULTS)
        self._is_own = http is None
        build = self._http.build_request
        super().__init__(
            base_url, build, dialect, storage, adopt_legacy_tokens, on_tokens, on_signed_out, origins
        )
        self._flight = threading.Lock()
        self._auth = BearerAuth(self)

    def login(self, email: str, password: str) -> str:
        """Logs in and returns the user's id. A wrong password has the code `invalid_credentials`."""
        return self._run(self._core.login(email, password))

    def register(self, email: str, password: str, **profile: str | None) -> str:
        """Creates a user, who is then signed in, and returns the user's id.

        `profile` is any of first_name, last_name, phone, user_type and avatar.
        """
        return self._run(self._core.register(email, password, profile))

    def set_tokens(self, access_token: str, refresh_token: str, expires_in: float | None = None) -> None:
        """Takes over a session that other code opened. `expires_in` is in seconds, and optional.

        From then on the refresh token belongs to this client. If the other code also sends it, that is
        reuse, and the session ends. Raises ValueError if a token is not a string.
        """
        self._run(self._core.set_tokens(access_token, refresh_token, expires_in))

    def access_token(self, refused: str | None = None) -> str:
        """Returns an access token for a call.

        It is refreshed first if it has expired or expires soon, or if it is the one that a server has just
        `refused`.
        """
        flight = self._core.flights
        token = self._core.usable(refused)
        if token is None:
            with self._flight:
                token = self._run(self._core.refresh(refused, flight))
        return token

    def refresh_access_token(self) -> str:
        """Refreshes now, even if no refresh is due, and returns the new access token."""
        return self.access_token(refused=self._core.tokens().access_token)

    def logout(self) -> bool:
        """Forgets the session here and ends it at the server.

        Returns False if nobody was signed in, or the server has not confirmed it.
        """
        return self._run(self._core.logout())

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a call with the access token, and returns the answer, whatever its status.

        The access token is refreshed before it expires, and once after a 401. GET, HEAD and calls with an
        Idempotency-Key are repeated while no answer arrives, and after 429, 500, 502, 503 and 504. `path`
        begins with a slash, or is a URL of the API's origin or of one of `origins`. `kwargs` are those of
        `httpx.Client.build_request`. Raises `FreshkeyError` if no answer arrives, `SignedOutError` if the
        user must log in again, and ValueError for another origin.
        """
        request = self._http.build_request(method, self._core.url(path), **kwargs)
        return self._run(self._core.call(request), self._auth)

    authenticated_request = request

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a GET request: see `request`."""
        return self.request("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a POST request: see `request`."""
        return self.request("POST", path, **kwargs)

    def put(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a PUT request: see `request`."""
        return self.request("PUT", path, **kwargs)

    def patch(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a PATCH request: see `request`."""
        return self.request("PATCH", path, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a DELETE request: see `request`."""
        return self.request("DELETE", path, **kwargs)

    def me(self) -> User:
        """Returns the user."""
        return self._run(self._core.me(), self._auth)

    def change_password(self, current_password: str, new_password: str) -> None:
        """Changes the password, which ends the user's other sessions."""
        self._run(self._core.change_password(current_password, new_password), self._auth)

    def request_password_reset(self, email: str) -> None:
        """Asks for a mail with a link to set a new password. Nobody has to be signed in.

        It succeeds for every address, whether or not it has an account.
        """
        self._run(self._core.request_password_reset(email))

    def reset_password(self, token: str, new_password: str) -> None:
        """Sets a new password with the token of a mailed link, and ends all of the user's sessions.

        Nobody has to be signed in, and nobody is signed in by it. If the session of this client was that
        user's, it has ended. A link that is no longer good has the code `invalid_link`; after a 422 the link
        is still good. If no answer arrives, call it again with the same arguments: it is the same attempt.
        """
        self._run(self._core.reset_password(token, new_password))
        if self.is_signed_in:
            with suppress(FreshkeyError):  # SignedOutError, if the session has ended
                self.refresh_access_token()

    def resend_verification(self) -> None:
        """Sends the mail by which the user confirms the address once more, at most once a minute."""
        self._run(self._core.resend_verification(), self._auth)

    def change_email(self, email: str, password: str) -> None:
        """Asks for a mail with a link to a new address, which `confirm_email` makes the user's address.

        It succeeds whether or not the address is another account's.
        """
        self._run(self._core.change_email(email, password), self._auth)

    def confirm_email(self, token: str) -> User:
        """Confirms the user's address, or changes it, with the token of a mailed link. Returns the user.

        A change ends the user's other sessions. A link that is no longer good, or another user's, has the
        code `invalid_link`; an address that somebody has registered meanwhile has `email_taken`. If no answer
        arrives, call it again: it is the same attempt.
        """
        return self._run(self._core.confirm_email(token), self._auth)

    def sessions(self) -> list[Session]:
        """Returns the user's sessions. The one of this client has `current`."""
        return self._run(self._core.sessions(), self._auth)

    def revoke_session(self, session_id: str) -> None:
        """Ends one of the user's sessions."""
        self._run(self._core.revoke_session(session_id), self._auth)

    def logout_everywhere(self, except_current: bool = False) -> None:
        """Ends all of the user's sessions, or all but this one."""
        self._run(self._core.logout_everywhere(except_current), self._auth)

    def close(self) -> None:
        """Closes the connections. The session stays in its storage."""
        if self._is_own:
            self._http.close()

    def __enter__(self) -> AuthClient:
        """Returns the client itself."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Closes the connections."""
        self.close()

    def _run(self, steps: Steps[T], auth: httpx.Auth | None = None) -> T:
        with closing(steps):
            resume: Callable[[], Any] = partial(next, steps)
            while True:
                try:
                    step = resume()
                except StopIteration as end:
                    result: T = end.value
                    return result
                try:
                    resume = partial(steps.send, self._carry_out(step, auth))
                except Exception as error:
                    resume = partial(steps.throw, error)

    def _carry_out(self, step: Any, auth: httpx.Auth | None) -> Any:
        if isinstance(step, httpx.Request):
            try:
                return self._http.send(step, auth=auth, follow_redirects=False)
            except httpx.RequestError as error:
                return error
        return step() if callable(step) else time.sleep(step)


class AsyncAuthClient(_Client):
    """`AuthClient` for asyncio: its methods are coroutines. Any number of tasks may share it.

    It works in one event loop after another, each with its own connections, which close when the loop
    ends. The callbacks are plain functions. The storage is read without waiting; the lock of a storage is
    waited for in a thread, where the storage is then read and written.
    """

    def __init__(
        self,
        base_url: str,
        *,
        dialect: Dialect = "v1",
        storage: Storage | None = None,
        adopt_legacy_tokens: bool = False,
        on_tokens: Callable[[Tokens], object] | None = None,
        on_signed_out: Callable[[SignedOutReason], object] | None = None,
        origins: Iterable[str] = (),
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Creates a client of the API at `base_url`, with the options of `AuthClient`.

        Your own `http` is used in every event loop, although its connections belong to the first.
        """
        self._own_http = http
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}

        def build(*args: Any, **kwargs: Any) -> httpx.Request:
            return self._loop().http.build_request(*args, **kwargs)

        super().__init__(
            base_url, build, dialect, storage, adopt_legacy_tokens, on_tokens, on_signed_out, origins
        )
        self._auth = AsyncBearerAuth(self)

    async def login(self, email: str, password: str) -> str:
        """See `AuthClient.login`."""
        return await self._run(self._core.login(email, password))

    async def register(self, email: str, password: str, **profile: str | None) -> str:
        """See `AuthClient.register`."""
        return await self._run(self._core.register(email, password, profile))

    async def set_tokens(
        self, access_token: str, refresh_token: str, expires_in: float | None = None
    ) -> None:
        """See `AuthClient.set_tokens`."""
        await self._run(self._core.set_tokens(access_token, refresh_token, expires_in))

    async def access_token(self, refused: str | None = None) -> str:
        """See `AuthClient.access_token`."""
        flight = self._core.flights
        token = self._core.usable(refused)
        if token is None:
            async with self._loop().flight:
                token = await self._run(self._core.refresh(refused, flight))
        return token

    async def refresh_access_token(self) -> str:
        """See `AuthClient.refresh_access_token`."""
        return await self.access_token(refused=self._core.tokens().access_token)

    async def logout(self) -> bool:
        """See `AuthClient.logout`."""
        return await self._run(self._core.logout())

    async def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """See `AuthClient.request`."""
        request = self._loop().http.build_request(method, self._core.url(path), **kwargs)
        return await self._run(self._core.call(request), self._auth)

    authenticated_request = request

    async def get(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a GET request: see `AuthClient.request`."""
        return await self.request("GET", path, **kwargs)

    async def post(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a POST request: see `AuthClient.request`."""
        return await self.request("POST", path, **kwargs)

    async def put(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a PUT request: see `AuthClient.request`."""
        return await self.request("PUT", path, **kwargs)

    async def patch(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a PATCH request: see `AuthClient.request`."""
        return await self.request("PATCH", path, **kwargs)

    async def delete(self, path: str, **kwargs: Any) -> httpx.Response:
        """Makes a DELETE request: see `AuthClient.request`."""
        return await self.request("DELETE", path, **kwargs)

    async def me(self) -> User:
        """See `AuthClient.me`."""
        return await self._run(self._core.me(), self._auth)

    async def change_password(self, current_password: str, new_password: str) -> None:
        """See `AuthClient.change_password`."""
        await self._run(self._core.change_password(current_password, new_password), self._auth)

    async def request_password_reset(self, email: str) -> None:
        """See `AuthClient.request_password_reset`."""
        await self._run(self._core.request_password_reset(email))

    async def reset_password(self, token: str, new_password: str) -> None:
        """See `AuthClient.reset_password`."""
        await self._run(self._core.reset_password(token, new_password))
        if self.is_signed_in:
            with suppress(FreshkeyError):
                await self.refresh_access_token()

    async def resend_verification(self) -> None:
        """See `AuthClient.resend_verification`."""
        await self._run(self._core.resend_verification(), self._auth)

    async def change_email(self, email: str, password: str) -> None:
        """See `AuthClient.change_email`."""
        await self._run(self._core.change_email(email, password), self._auth)

    async def confirm_email(self, token: str) -> User:
        """See `AuthClient.confirm_email`."""
        return await self._run(self._core.confirm_email(token), self._auth)

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
        """Closes the connections of this event loop. The session stays in its storage."""
        loop = self._loops.pop(asyncio.get_running_loop(), None)
        if loop:
            await loop.connections.aclose()

    async def __aenter__(self) -> AsyncAuthClient:
        """Returns the client itself."""
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Closes the connections of this event loop."""
        await self.close()

    def _loop(self) -> _Loop:
        running = asyncio.get_running_loop()
        if running not in self._loops:
            self._loops = {loop: held for loop, held in self._loops.items() if not loop.is_closed()}
            self._loops[running] = _Loop(self._own_http)
        return self._loops[running]

    async def _run(self, steps: Steps[T], auth: httpx.Auth | None = None) -> T:
        with closing(steps):
            resume: Callable[[], Any] = partial(next, steps)
            while True:
                try:
                    step = resume()
                except StopIteration as end:
                    result: T = end.value
                    return result
                try:
                    resume = partial(steps.send, await self._carry_out(step, auth))
                except Exception as error:
                    resume = partial(steps.throw, error)

    async def _carry_out(self, step: Any, auth: httpx.Auth | None) -> Any:
        if isinstance(step, httpx.Request):
            loop = self._loop()
            await loop.open()
            try:
                return await loop.http.send(step, auth=auth, follow_redirects=False)
            except httpx.RequestError as error:
                return error
        return await (asyncio.to_thread(step) if callable(step) else asyncio.sleep(step))


class _Loop:
    """What belongs to one event loop: its connections, and the lock that lets one task refresh at a time."""

    def __init__(self, own: httpx.AsyncClient | None) -> None:
        self.http = own or httpx.AsyncClient(**_DEFAULTS)
        self.flight = asyncio.Lock()
        self.connections = self._connections(is_own=own is None)
        self._is_open = False

    async def open(self) -> None:
        """Sees to it that the connections are closed when the loop ends: it closes its generators then."""
        if not self._is_open:
            self._is_open = True
            await anext(self.connections)

    async def _connections(self, is_own: bool) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if is_own:
                await self.http.aclose()


class _Bearer(httpx.Auth):
    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Raises TypeError: httpx calls it when the two classes are mixed up."""
        raise TypeError("Use BearerAuth with httpx.Client, and AsyncBearerAuth with httpx.AsyncClient.")


class BearerAuth(_Bearer):
    """Keeps the requests of an `httpx.Client` signed in: `httpx.Client(auth=BearerAuth(client))`.

    Each request carries the access token (RFC 6750), which is refreshed before it expires, and once after
    a 401. It is sent to the API's origin and the client's `origins`; a request to another origin raises
    ValueError before it is sent. The body of a request is read into memory, so that it can be repeated.
    """

    def __init__(self, client: AuthClient) -> None:
        """Uses the session of this client."""
        self._client = client

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sends the request, and sends it again after a 401."""
        self._client.check_origin(request.url)
        request.read()
        token = self._client.access_token()
        response = yield _with(token, request)
        if response.status_code == 401:
            response.read()  # returns its connection, which the refresh may need
            yield _with(self._client.access_token(refused=token), request)


class AsyncBearerAuth(_Bearer):
    """Keeps the requests of an `httpx.AsyncClient` signed in: `BearerAuth` for asyncio."""

    def __init__(self, client: AsyncAuthClient) -> None:
        """Uses the session of this client."""
        self._client = client

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sends the request, and sends it again after a 401."""
        self._client.check_origin(request.url)
        await request.aread()
        token = await self._client.access_token()
        response = yield _with(token, request)
        if response.status_code == 401:
            await response.aread()  # returns its connection, which the refresh may need
            yield _with(await self._client.access_token(refused=token), request)


def _with(access_token: str, request: httpx.Request) -> httpx.Request:
    request.headers["authorization"] = f"Bearer {access_token}"
    return request
