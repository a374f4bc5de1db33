"""The protocol without the I/O: what to send, what an answer means, what to keep.

Each operation is a generator. It yields a request, and is sent the answer or the error that took
its place; or it yields a number of seconds, and is resumed after them. `AuthClient` and
`AsyncAuthClient` carry that out, each in its own way, and add no rule of their own.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from ._errors import FreshkeyError, SignedOut, json_object, retry_after
from ._storage import Record, Storage
from ._tokens import Tokens, new_key

TRIES = 5
"""How often a request is made before its failure is reported."""
BACKOFF = 0.2
"""The first pause between two tries is at most that many seconds; each further one, twice as long."""
PATIENCE = 30.0
"""The longest Retry-After that is waited for, in seconds. A longer one is the caller's to wait for."""
QUIET = 30.0
"""For how many seconds a good access token is left in peace after a failed refresh."""

Outcome = httpx.Response | httpx.RequestError | None
T = TypeVar("T")
Steps = Generator[httpx.Request | float, Outcome, T]

Dialect = Literal["v1", "lexik"]
"""What the server's answers look like: Freshkey's own, or LexikJWTAuthenticationBundle's."""
SignedOutReason = Literal["logged_out", "session_ended"]
"""Why nobody is signed in any more: on request, or because the server has ended the session."""


class User(TypedDict):
    """A user, as `GET /api/v1/users/me` shows it; the time is RFC 3339, UTC."""

    id: str
    email: str
    first_name: str | None
    last_name: str | None
    phone: str | None
    roles: list[str]
    user_type: str | None
    is_active: bool
    avatar: str | None
    created_at: str


class Session(TypedDict):
    """One login and what came of it, as `GET /api/v1/auth/sessions` shows it; times are RFC 3339, UTC."""

    id: str
    created_at: str
    last_used_at: str
    expires_at: str
    ip: str
    user_agent: str
    current: bool


@dataclass(frozen=True)
class _Words:
    """What a dialect calls things."""

    login: str
    refresh: str
    access_token: str
    ended: tuple[int, dict[str, object]]
    """The status and the members that say, definitively, that a refresh token is no longer good."""

    def says_ended(self, answer: httpx.Response) -> bool:
        status, members = self.ended
        return answer.status_code == status and members.items() <= json_object(answer).items()


_WORDS: Mapping[str, _Words] = {
    "v1": _Words(
        login="/api/v1/auth/login",
        refresh="/api/v1/auth/refresh",
        access_token="access_token",  # noqa: S106 - the member's name
        ended=(401, {"error": "invalid_refresh_token"}),
    ),
    "lexik": _Words(
        login="/api/auth",
        refresh="/api/token/refresh",
        access_token="token",  # noqa: S106 - the member's name
        ended=(400, {"code": 400, "message": "Invalid refresh token"}),
    ),
}


class Core:
    """The protocol of one client. Only `refresh` must not run twice at once: the shells see to it."""

    def __init__(
        self,
        base_url: str,
        build: Callable[..., httpx.Request],
        dialect: Dialect,
        storage: Storage,
        on_tokens: Callable[[Tokens], object] | None,
        on_signed_out: Callable[[SignedOutReason], object] | None,
        origins: Iterable[str],
    ) -> None:
        """`build` makes a request of a method, a URL and what else httpx takes; it sends nothing."""
        self._base = base_url.rstrip("/")
        self._origins = {_origin(httpx.URL(url)) for url in (self._base, *origins)}
        self._words = _WORDS[dialect]
        self._storage = storage
        own = threading.Lock()
        self._lock: Callable[[], AbstractContextManager[Any]] = getattr(storage, "lock", lambda: own)
        self._on_tokens = on_tokens
        self._on_signed_out = on_signed_out
        self._build = build
        self._failure: FreshkeyError | None = None
        self._quiet_until = 0.0
        self.flights = 0
        """How many refreshes have come to an end."""

    # What is held, and where it may be sent.

    def tokens(self) -> Tokens:
        """What the storage holds now. Raises `SignedOut` if that is nothing."""
        tokens = Tokens.from_record(self._load())
        if tokens is None:
            raise SignedOut(0, "not_signed_in", "Nobody is signed in.")
        return tokens

    def is_signed_in(self) -> bool:
        """Whether the storage holds a session."""
        return Tokens.from_record(self._load()) is not None

    def set_tokens(self, access_token: str, refresh_token: str, expires_in: float | None) -> None:
        """Takes over a session that something else began."""
        record: Record = {"access_token": access_token, "refresh_token": refresh_token, "key": new_key()}
        if expires_in is not None:
            record |= {"expires_at": time.time() + expires_in, "lifetime": expires_in}
        tokens = Tokens.from_record(record)
        assert tokens is not None  # noqa: S101 - both are there
        self._sign_in(tokens)

    def url(self, path: str) -> httpx.URL:
        """The address of a path of the API, or an address as it stands. Raises ValueError for an origin
        that the access token must not be sent to."""
        url = httpx.URL(self._base + path if path.startswith("/") else path)
        self.check_origin(url)
        return url

    def check_origin(self, url: httpx.URL | str) -> None:
        """Raises ValueError unless the access token may be sent there (RFC 6454)."""
        if _origin(httpx.URL(url)) not in self._origins:
            raise ValueError(f"The access token is not sent to {httpx.URL(url).host!r}: see `origins`.")

    def usable(self, refused: str | None = None) -> str | None:
        """The access token to make a call with, unless it must be refreshed first: when it is the one that
        was refused, has expired, or is about to. Raises `SignedOut`."""
        tokens, now = self.tokens(), time.time()
        if tokens.access_token == refused or tokens.is_expired(now):
            return None
        return None if tokens.is_due(now) and time.monotonic() >= self._quiet_until else tokens.access_token

    # Operations.

    def refresh(self, refused: str | None, flight: int) -> Steps[str]:
        """The access token to make a call with, after a refresh if it still takes one.

        `flight` is what `flights` was when the caller asked. A refresh that ended since then is the
        caller's as well: its tokens are used, and its failure is shared rather than repeated, or
        a hundred callers would wait for a server that is down one after the other. A failure
        harms nobody whose access token is good.
        """
        if token := self.usable(refused):
            return token
        if self._failure and flight != self.flights:
            raise copy(self._failure)
        tokens = self.tokens()
        must = tokens.access_token == refused or tokens.is_expired(time.time())
        self._failure = None
        try:
            tokens = yield from self._rotate(TRIES if must else 1)
        except FreshkeyError as failure:
            self._quiet_until = time.monotonic() + max(QUIET, failure.retry_after or 0.0)
            if must or isinstance(failure, SignedOut):
                self._failure = failure
                raise
        finally:
            self.flights += 1
        return tokens.access_token

    def login(self, email: str, password: str) -> Steps[str]:
        """Opens a session; gives the user's id."""
        body = {"email": email, "password": password}
        answer = yield from self._open(self._words.login, self._words.access_token, body)
        user = answer.get("user")
        return str(user.get("id") if isinstance(user, dict) else answer.get("user_id"))

    def register(self, email: str, password: str, profile: Mapping[str, str | None]) -> Steps[str]:
        """Makes a user and opens a session; gives the user's id. There is a v1 route alone."""
        body = {"email": email, "password": password, **profile}
        answer = yield from self._open("/api/v1/auth/register", "access_token", body)
        return str(answer.get("user_id"))

    def logout(self) -> Steps[bool]:
        """Forgets the session, then tells the server; whether that was told."""
        tokens = self._sign_out("logged_out")
        if tokens is None:
            return False
        body = {"refresh_token": tokens.refresh_token}
        try:
            answer = yield from self.call(self._request("POST", "/api/v1/auth/logout", json=body), tries=3)
        except FreshkeyError:
            return False
        return answer.status_code == 204

    def me(self) -> Steps[User]:
        """The user."""
        user: User = _body((yield from self.call(self._request("GET", "/api/v1/users/me"))), "id")
        return user

    def sessions(self) -> Steps[list[Session]]:
        """The user's live sessions."""
        body = _body((yield from self.call(self._request("GET", "/api/v1/auth/sessions"))), "sessions")
        sessions: list[Session] = body["sessions"]
        return sessions

    def revoke_session(self, session_id: str) -> Steps[None]:
        """Ends one session of the user's."""
        path = f"/api/v1/auth/sessions/{quote(session_id, safe='')}"
        _done((yield from self.call(self._request("DELETE", path))))

    def logout_everywhere(self, except_current: bool) -> Steps[None]:
        """Ends all sessions of the user's."""
        query = {"except": "current"} if except_current else None
        _done((yield from self.call(self._request("DELETE", "/api/v1/auth/sessions", params=query))))
        if not except_current:
            self._sign_out("logged_out")

    def change_password(self, current_password: str, new_password: str) -> Steps[None]:
        """Changes the password, which ends the user's other sessions."""
        body = {"current_password": current_password, "new_password": new_password}
        request = self._request("PUT", "/api/v1/users/me/password", json=body, headers=self._device())
        _done((yield from self.call(request)))

    def call(self, request: httpx.Request, tries: int | None = None) -> Steps[httpx.Response]:
        """The answer to a request, whatever its status. What cannot have been meant to happen twice is
        sent once; what only reads is sent again while there is no answer, or one that says to wait."""
        tries = tries or (TRIES if request.method in ("GET", "HEAD") else 1)
        for attempt in range(1, tries + 1):
            outcome = yield request
            if isinstance(outcome, httpx.Response) and outcome.is_success:
                return outcome
            pause = _pause(outcome, attempt, tries)
            if pause is None:
                break
            yield pause
        if isinstance(outcome, httpx.Response):
            return outcome
        raise _error(outcome)

    # The rotation.

    def _rotate(self, tries: int) -> Steps[Tokens]:
        """Exchanges the refresh token; gives what is held in the end, be it by another's doing.

        The key was kept beside the refresh token since the moment that came, so whatever is lost on
        the way, and whoever is killed, the next try sends the same two and gets the same successor.
        Each try reads the storage: if the refresh token has changed meanwhile, another process was
        first, and this one is not presented again, for after one more rotation that would be reuse.
        """
        sent = self._keyed()
        for attempt in range(1, tries + 1):
            outcome = yield self._request(
                "POST",
                self._words.refresh,
                json={"refresh_token": sent.refresh_token},
                headers={"idempotency-key": sent.key},
            )
            if isinstance(outcome, httpx.Response):
                if self._words.says_ended(outcome):
                    return self._end(sent, outcome)
                body = json_object(outcome) if outcome.is_success else {}
                new = self._read(body, self._words.access_token)
                if new:
                    return self._adopt(sent, new)
            pause = _pause(outcome, attempt, tries)
            if pause is None:
                break
            yield pause
            held = self.tokens()
            if held.refresh_token != sent.refresh_token:
                return held
        raise _error(outcome)

    def _keyed(self) -> Tokens:
        """What is held. Tokens that other code stored are given their key, before they are ever sent."""
        with self._lock():
            record = self._load()
            tokens = self.tokens()
            if not tokens.key:
                tokens = replace(tokens, key=new_key())
                self._storage.save({**record, **vars(tokens)})
        return tokens

    def _adopt(self, sent: Tokens, new: Tokens) -> Tokens:
        """Keeps the answer, if what was sent is still held: a late one would put back a spent token, or
        undo a logout."""
        with self._lock():
            record, held = self._load(), self.tokens()
            if held.refresh_token != sent.refresh_token:
                return held
            new = self._save(record, new)
        if self._on_tokens:
            self._on_tokens(new)
        return new

    def _end(self, sent: Tokens, verdict: httpx.Response) -> Tokens:
        """Drops the tokens, if the verdict is about those that are held: otherwise gives what is held."""
        if self._sign_out("session_ended", sent) is None:
            return self.tokens()
        error = FreshkeyError.of(verdict)
        raise SignedOut(error.status, "invalid_refresh_token", error.detail, request_id=error.request_id)

    # What is kept.

    def _open(self, path: str, access_token: str, body: Mapping[str, str | None]) -> Steps[dict[str, Any]]:
        """A login or a registration; gives the answer."""
        request = self._request("POST", path, json=body, headers=self._device())
        answer = yield from self.call(request)
        said: dict[str, Any] = _body(answer, access_token)
        tokens = self._read(said, access_token)
        if tokens is None:
            raise FreshkeyError.of(answer)
        self._sign_in(tokens, said.get("device_token"))
        return said

    def _read(self, body: Mapping[str, Any], access_token: str) -> Tokens | None:
        return Tokens.new(
            body.get(access_token), body.get("refresh_token"), body.get("expires_in"), time.time()
        )

    def _sign_in(self, tokens: Tokens, device_token: object = None) -> None:
        with self._lock():
            device = (
                {"device_token": device_token} if isinstance(device_token, str) else self._device_record()
            )
            tokens = self._save(device, tokens)
        if self._on_tokens:
            self._on_tokens(tokens)

    def _sign_out(self, reason: SignedOutReason, only: Tokens | None = None) -> Tokens | None:
        """Forgets the session, or only this one; gives what it forgot. The device token stays."""
        with self._lock():
            held = Tokens.from_record(self._load())
            if held is None or (only and only.refresh_token != held.refresh_token):
                return None
            self._storage.save(self._device_record())
        if self._on_signed_out:
            self._on_signed_out(reason)
        return held

    def _save(self, others: Record, tokens: Tokens) -> Tokens:
        """Keeps tokens, under the lock, and gives them. A refresh token that is held already keeps its key,
        with which it may have been sent: within a reuse interval it comes back, and `set_tokens` may be
        given it again."""
        held = Tokens.from_record(self._load())
        if held and held.key and held.refresh_token == tokens.refresh_token:
            tokens = replace(tokens, key=held.key)
        self._storage.save({**others, **vars(tokens)})
        return tokens

    def _load(self) -> Record:
        return self._storage.load() or {}

    def _device_record(self) -> Record:
        """What outlives the session: the note that this device has logged in before."""
        token = self._load().get("device_token")
        return {"device_token": token} if isinstance(token, str) else {}

    def _device(self) -> dict[str, str]:
        token = self._device_record().get("device_token")
        return {"x-device-token": token} if token else {}

    def _request(self, method: str, path: str, **parts: Any) -> httpx.Request:
        return self._build(method, self._base + path, **parts)


def _pause(outcome: Outcome, attempt: int, tries: int) -> float | None:
    """How long to wait before the same is sent again; None: not at all, the outcome is final.

    After no answer, a success that cannot be read, 429 and 5xx there is a random pause, longer each
    time ("full jitter", so that clients do not come back all at once), on top of what Retry-After says.
    """
    at_least = 0.0
    if isinstance(outcome, httpx.Response):
        if not (outcome.is_success or outcome.status_code == 429 or outcome.is_server_error):
            return None
        at_least = retry_after(outcome) or 0.0
    if attempt == tries or at_least > PATIENCE:
        return None
    return at_least + random.uniform(0, BACKOFF * 2 ** (attempt - 1))  # noqa: S311 - it guards nothing


def _error(outcome: Outcome) -> FreshkeyError:
    assert outcome is not None, "a request has an outcome"  # noqa: S101 - for the type checker
    error = FreshkeyError.of(outcome)
    error.__cause__ = outcome if isinstance(outcome, httpx.RequestError) else None
    return error


def _body(answer: httpx.Response, member: str) -> Any:
    """What the answer brings. Raises `FreshkeyError` unless it is a success, and has this member."""
    body = json_object(answer)
    if not answer.is_success or member not in body:
        raise FreshkeyError.of(answer)
    return body


def _done(answer: httpx.Response) -> None:
    """Raises `FreshkeyError` unless the answer says that it is done: a portal's page does not."""
    if answer.status_code != 204:
        raise FreshkeyError.of(answer)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """The origin of a URL. Raises ValueError for one that is not of the web."""
    ports = {"http": 80, "https": 443}
    if url.scheme not in ports or not url.host:
        raise ValueError(f"{url.scheme or 'A path'!r} is no http or https URL.")
    return url.scheme, url.host, url.port or ports[url.scheme]
