"""The protocol without I/O: what to send, what an answer means, what to keep.

Each operation is a generator of steps. It yields one of three things:

- a request, and is sent the answer, or the error if none arrived;
- a number of seconds, and is resumed after them;
- a function that may have to wait for another process, and is sent what it returns.

`AuthClient` and `AsyncAuthClient` carry the steps out, each in its own way, and add no rule of their own.
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

from ._errors import FreshkeyError, SignedOutError, json_object, retry_after
from ._storage import Record, Storage
from ._tokens import Tokens, new_key

TRIES = 5
"""How many times a request is sent before its failure is reported."""
BACKOFF = 0.2
"""The longest first pause between two tries, in seconds. It doubles with each try."""
PATIENCE = 30.0
"""The longest Retry-After that the client waits for, in seconds. Longer ones are left to the caller."""
QUIET = 30.0
"""How many seconds to wait after a failed refresh before the next, while the access token is still valid."""
PASSING = (429, 500, 502, 503, 504)
"""The statuses after which the same request may succeed a moment later."""

Outcome = httpx.Response | httpx.RequestError
T = TypeVar("T")
Steps = Generator[httpx.Request | float | Callable[[], Any], Any, T]

Dialect = Literal["v1", "lexik"]
"""The form of the server's answers: Freshkey's own, or that of LexikJWTAuthenticationBundle."""
SignedOutReason = Literal["logged_out", "session_ended"]
"""Why the user was signed out: the client logged out, or the server has ended the session."""


class _User(TypedDict):
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


class User(_User, total=False):
    """A user, as `GET /api/v1/users/me` returns it. The time is RFC 3339 in UTC.

    `email_verified` says whether the user has proven that the address is theirs. It is absent if the server
    sends no mail.
    """

    email_verified: bool


class Session(TypedDict):
    """A session, as `GET /api/v1/auth/sessions` returns it. Times are RFC 3339 in UTC."""

    id: str
    created_at: str
    last_used_at: str
    expires_at: str
    ip: str
    user_agent: str
    current: bool


@dataclass(frozen=True)
class _Pattern:
    """The status of an answer and the members of its body that identify its meaning."""

    status: int
    members: Mapping[str, object]

    def matches(self, answer: httpx.Response) -> bool:
        return answer.status_code == self.status and self.members.items() <= json_object(answer).items()


@dataclass(frozen=True)
class _Words:
    """The paths, members and answers of a dialect."""

    login: str
    refresh: str
    access_token: str
    wrong_password: _Pattern
    ended: _Pattern
    """The refresh token is no longer accepted. This is final."""
    missing: _Pattern
    """No refresh token arrived, though one was sent: a proxy has lost the body. The session is unaffected."""


_WORDS: Mapping[str, _Words] = {
    "v1": _Words(
        login="/api/v1/auth/login",
        refresh="/api/v1/auth/refresh",
        access_token="access_token",  # noqa: S106 - the member's name
        wrong_password=_Pattern(401, {"error": "invalid_credentials"}),
        ended=_Pattern(401, {"error": "invalid_refresh_token"}),
        missing=_Pattern(400, {"error": "invalid_request"}),
    ),
    "lexik": _Words(
        login="/api/auth",
        refresh="/api/token/refresh",
        access_token="token",  # noqa: S106 - the member's name
        wrong_password=_Pattern(401, {"code": 401, "message": "Invalid credentials."}),
        ended=_Pattern(400, {"code": 400, "message": "Invalid refresh token"}),
        missing=_Pattern(401, {"code": 401, "message": "An authentication exception occurred."}),
    ),
}

_PORTS = {"http": 80, "https": 443}

_LEGACY = ("access_token", "refresh_token", "key", "device_token")
"""What older code may have stored without an API. When the access token expires is read from the token."""


class Core:
    """The protocol of one client. `refresh` must not run twice at once, which the clients ensure."""

    def __init__(
        self,
        base_url: str,
        build: Callable[..., httpx.Request],
        dialect: Dialect,
        storage: Storage,
        adopt_legacy_tokens: bool,
        on_tokens: Callable[[Tokens], object] | None,
        on_signed_out: Callable[[SignedOutReason], object] | None,
        origins: Iterable[str],
    ) -> None:
        """`build` makes a request of a method, a URL and further arguments of httpx. It sends nothing."""
        self._base = base_url.rstrip("/")
        self._api = _api(httpx.URL(self._base))
        self._origins = {_origin(httpx.URL(url)) for url in (self._base, *origins)}
        self._words = _WORDS[dialect]
        self._storage = storage
        self._adopts_legacy = adopt_legacy_tokens
        self._lock: Callable[[], AbstractContextManager[Any]] | None = getattr(storage, "lock", None)
        self._own_lock = threading.Lock()
        self._on_tokens = on_tokens
        self._on_signed_out = on_signed_out
        self._build = build
        self._link: tuple[str, str] | None = None
        self._failure: FreshkeyError | None = None
        self._quiet_until = 0.0
        self.flights = 0
        """How many refreshes have ended."""

    # What is held, and where it may be sent.

    def tokens(self) -> Tokens:
        """Returns the tokens in the storage. Raises `SignedOutError` if there are none."""
        tokens = Tokens.from_record(self._load())
        if tokens is None:
            raise SignedOutError(0, "not_signed_in", "Nobody is signed in.")
        return tokens

    def is_signed_in(self) -> bool:
        """Whether the storage holds a session."""
        return Tokens.from_record(self._load()) is not None

    def url(self, path: str) -> httpx.URL:
        """Returns the URL for a path of the API; a URL is returned unchanged.

        Raises ValueError for an origin that the access token must not be sent to.
        """
        url = httpx.URL(self._base + path if path.startswith("/") else path)
        self.check_origin(url)
        return url

    def check_origin(self, url: httpx.URL | str) -> None:
        """Raises ValueError unless the access token may be sent to this URL's origin (RFC 6454)."""
        if _origin(httpx.URL(url)) not in self._origins:
            raise ValueError(f"The access token is not sent to {httpx.URL(url).host!r}: see `origins`.")

    def usable(self, refused: str | None = None) -> str | None:
        """Returns the access token for a call, or None if it must be refreshed first.

        It must be refreshed if it is the one that was refused, or it has expired or is due for a refresh.
        Raises `SignedOutError` if nobody is signed in.
        """
        tokens = self.tokens()
        is_good = not self._must_refresh(tokens, refused) and not self._may_refresh(tokens)
        return tokens.access_token if is_good else None

    def _must_refresh(self, tokens: Tokens, refused: str | None) -> bool:
        return tokens.access_token == refused or tokens.is_expired(time.time())

    def _may_refresh(self, tokens: Tokens) -> bool:
        return tokens.is_due(time.time()) and time.monotonic() >= self._quiet_until

    # Operations.

    def set_tokens(self, access_token: str, refresh_token: str, expires_in: float | None) -> Steps[None]:
        """Takes over a session that other code opened. Raises ValueError if the tokens are not strings."""
        if expires_in is None:  # the token may be old: its `exp` says when it expires
            record = {"access_token": access_token, "refresh_token": refresh_token, "key": new_key()}
            tokens = Tokens.from_record(record)
        else:
            tokens = Tokens.new(access_token, refresh_token, expires_in, None, time.time())
        if tokens is None:
            raise ValueError("The access token and the refresh token must be strings, `expires_in` a number.")
        yield from self._sign_in(tokens)

    def refresh(self, refused: str | None, flight: int) -> Steps[str]:
        """Returns the access token for a call, after a refresh if that is still necessary.

        `flight` is the value of `flights` when the caller asked. If a refresh has ended since then, the
        caller uses its tokens, or shares its failure. Otherwise, a hundred callers would wait for a server
        that is down one after the other. A failure is not reported while the access token is valid.
        """
        tokens = self.tokens()
        must = self._must_refresh(tokens, refused)
        if not must and not self._may_refresh(tokens):
            return tokens.access_token
        if self._failure and flight != self.flights:
            raise copy(self._failure)
        self._failure = None
        try:
            tokens = yield from self._rotate(tokens, TRIES if must else 1)
        except FreshkeyError as failure:
            self._quiet_until = time.monotonic() + max(QUIET, failure.retry_after or 0.0)
            if must or isinstance(failure, SignedOutError):
                self._failure = failure
                raise
        finally:
            self.flights += 1
        return tokens.access_token

    def login(self, email: str, password: str) -> Steps[str]:
        """Opens a session and returns the user's id."""
        body = {"email": email, "password": password}
        answer = yield from self._open(self._words.login, self._words.access_token, body)
        user = answer.get("user")
        return str(user.get("id") if isinstance(user, dict) else answer.get("user_id"))

    def register(self, email: str, password: str, profile: Mapping[str, str | None]) -> Steps[str]:
        """Creates a user, opens a session and returns the user's id. The route is v1's in both dialects."""
        body = {"email": email, "password": password, **profile}
        answer = yield from self._open("/api/v1/auth/register", "access_token", body)
        return str(answer.get("user_id"))

    def logout(self) -> Steps[bool]:
        """Forgets the session, then ends it at the server. Returns whether the server has confirmed that."""
        tokens = yield from self._sign_out("logged_out")
        if tokens is None:
            return False
        body = {"refresh_token": tokens.refresh_token}
        try:
            answer = yield from self.call(self._request("POST", "/api/v1/auth/logout", json=body), tries=3)
        except FreshkeyError:
            return False
        return answer.status_code == 204

    def me(self) -> Steps[User]:
        """Returns the user."""
        user: User = _body((yield from self.call(self._request("GET", "/api/v1/users/me"))), "id")
        return user

    def sessions(self) -> Steps[list[Session]]:
        """Returns the user's live sessions."""
        body = _body((yield from self.call(self._request("GET", "/api/v1/auth/sessions"))), "sessions")
        sessions: list[Session] = body["sessions"]
        return sessions

    def revoke_session(self, session_id: str) -> Steps[None]:
        """Ends one of the user's sessions."""
        path = f"/api/v1/auth/sessions/{quote(session_id, safe='')}"
        _done((yield from self.call(self._request("DELETE", path))))

    def logout_everywhere(self, except_current: bool) -> Steps[None]:
        """Ends all of the user's sessions."""
        query = {"except": "current"} if except_current else None
        _done((yield from self.call(self._request("DELETE", "/api/v1/auth/sessions", params=query))))
        if not except_current:
            yield from self._sign_out("logged_out")

    def change_password(self, current_password: str, new_password: str) -> Steps[None]:
        """Changes the password, which ends the user's other sessions."""
        body = {"current_password": current_password, "new_password": new_password}
        request = self._request("PUT", "/api/v1/users/me/password", json=body, headers=self._device())
        _done((yield from self.call(request)))

    def request_password_reset(self, email: str) -> Steps[None]:
        """Asks for a mail with a link to set a new password."""
        request = self._request("POST", "/api/v1/auth/password/forgot", json={"email": email})
        _done((yield from self.call(request)), 202)

    def reset_password(self, token: str, new_password: str) -> Steps[None]:
        """Sets a new password with the token of a mailed link."""
        body = {"token": token, "new_password": new_password}
        _done((yield from self._redeem("/api/v1/auth/password/reset", body)))

    def resend_verification(self) -> Steps[None]:
        """Sends the mail by which the user confirms the address once more."""
        _done((yield from self.call(self._request("POST", "/api/v1/users/me/email/verification"))), 202)

    def change_email(self, email: str, password: str) -> Steps[None]:
        """Asks for a mail with a link to a new address of the user."""
        body = {"email": email, "password": password}
        request = self._request("PUT", "/api/v1/users/me/email", json=body, headers=self._device())
        _done((yield from self.call(request)), 202)

    def confirm_email(self, token: str) -> Steps[User]:
        """Confirms or changes the user's address with the token of a mailed link, and returns the user."""
        user = _body((yield from self._redeem("/api/v1/users/me/email/confirm", {"token": token})), "id")
        device_token = user.pop("device_token", None)
        if isinstance(device_token, str):
            yield from self._locked(lambda: self._store({**self._load(), "device_token": device_token}))
        confirmed: User = user
        return confirmed

    def call(self, request: httpx.Request, tries: int | None = None) -> Steps[httpx.Response]:
        """Returns the answer to a request, whatever its status.

        GET, HEAD and requests with an Idempotency-Key are sent again while no answer arrives, and after a
        passing failure. Others are sent once, unless `tries` says otherwise, because to act twice may be
        wrong.
        """
        is_repeatable = request.method in ("GET", "HEAD") or "idempotency-key" in request.headers
        tries = tries or (TRIES if is_repeatable else 1)
        for attempt in range(1, tries + 1):
            outcome: Outcome = yield request
            if isinstance(outcome, httpx.Response) and outcome.status_code not in PASSING:
                return outcome
            pause = _pause(outcome, attempt, tries)
            if pause is None:
                break
            yield pause
        if isinstance(outcome, httpx.Response):
            return outcome
        raise _error(outcome)

    def _redeem(self, path: str, body: Mapping[str, str]) -> Steps[httpx.Response]:
        """Sends the token of a link, each time with the same key, so an answer that was lost comes again."""
        link = self._link
        if link is None or link[0] != body["token"]:
            link = self._link = body["token"], new_key()
        request = self._request("POST", path, json=body, headers={"idempotency-key": link[1]})
        return (yield from self.call(request))

    # The rotation.

    def _rotate(self, seen: Tokens, tries: int) -> Steps[Tokens]:
        """Exchanges the refresh token that was `seen`, and returns the tokens that are then held, even if
        another process has exchanged it.

        The key was stored together with the refresh token. So whatever is lost, and whichever process is
        killed, the next try sends the same token with the same key and gets the same successor. Each try
        reads the storage first: if the refresh token has changed, another process has exchanged it, and it
        must not be sent again, because after one more rotation that would be reuse.
        """
        sent = yield from self._locked(self._keyed)
        if sent.refresh_token != seen.refresh_token:
            return sent  # exchanged while this waited for the lock
        for attempt in range(1, tries + 1):
            outcome: Outcome = yield self._request(
                "POST",
                self._words.refresh,
                json={"refresh_token": sent.refresh_token},
                headers={"idempotency-key": sent.key},
            )
            code = None
            if isinstance(outcome, httpx.Response):
                if self._words.ended.matches(outcome):
                    return (yield from self._end(sent, outcome))
                body = json_object(outcome) if outcome.is_success else {}
                new = self._read(body, self._words.access_token)
                if new:
                    return (yield from self._adopt(sent, new))
                if self._words.missing.matches(outcome):
                    code = "invalid_request"
                elif not outcome.is_success and outcome.status_code not in PASSING:
                    break
            pause = _pause(outcome, attempt, tries)
            if pause is None:
                break
            yield pause
            held = self.tokens()
            if held.refresh_token != sent.refresh_token:
                return held
        raise _error(outcome, code)

    def _keyed(self) -> Tokens:
        """Returns the tokens that are held. Tokens of other code get their key here, before they are sent."""
        record = self._load()
        tokens = self.tokens()
        if not tokens.key:
            tokens = replace(tokens, key=new_key())
            self._store({**record, **vars(tokens)})
        return tokens

    def _adopt(self, sent: Tokens, new: Tokens) -> Steps[Tokens]:
        """Keeps the new tokens if the ones that were sent are still held, and returns what is held then.

        Otherwise, a late answer would restore a spent token or undo a logout.
        """

        def adopt() -> tuple[Tokens, bool]:
            record, held = self._load(), self.tokens()
            if held.refresh_token != sent.refresh_token:
                return held, False
            return self._save(record, new), True

        tokens, is_new = yield from self._locked(adopt)
        if is_new and self._on_tokens:
            self._on_tokens(tokens)
        return tokens

    def _end(self, sent: Tokens, refusal: httpx.Response) -> Steps[Tokens]:
        """Drops the tokens if the refused ones are still held. Otherwise, returns what is held."""
        if (yield from self._sign_out("session_ended", sent)) is None:
            return self.tokens()
        error = FreshkeyError.of(refusal)
        raise SignedOutError(error.status, "invalid_refresh_token", error.detail, request_id=error.request_id)

    # What is kept.

    def _open(self, path: str, access_token: str, body: Mapping[str, str | None]) -> Steps[dict[str, Any]]:
        """Logs in or registers, keeps the tokens, and returns the body of the answer."""
        request = self._request("POST", path, json=body, headers=self._device())
        answer = yield from self.call(request)
        if self._words.wrong_password.matches(answer):
            raise FreshkeyError.of(answer, "invalid_credentials")
        opened: dict[str, Any] = _body(answer, access_token)
        tokens = self._read(opened, access_token)
        if tokens is None:
            raise FreshkeyError.of(answer)
        yield from self._sign_in(tokens, opened.get("device_token"))
        return opened

    def _read(self, body: Mapping[str, Any], access_token: str) -> Tokens | None:
        return Tokens.new(
            body.get(access_token),
            body.get("refresh_token"),
            body.get("expires_in"),
            body.get("refresh_expires_in"),
            time.time(),
        )

    def _sign_in(self, tokens: Tokens, device_token: object = None) -> Steps[None]:
        def keep() -> Tokens:
            is_new = isinstance(device_token, str)
            return self._save({"device_token": device_token} if is_new else self._device_record(), tokens)

        kept = yield from self._locked(keep)
        if self._on_tokens:
            self._on_tokens(kept)

    def _sign_out(self, reason: SignedOutReason, only: Tokens | None = None) -> Steps[Tokens | None]:
        """Forgets the session, but not the device token, and returns the session's tokens.

        With `only`, it forgets nothing if other tokens are held by now, and returns None.
        """

        def forget() -> Tokens | None:
            held = Tokens.from_record(self._load())
            if held is None or (only and only.refresh_token != held.refresh_token):
                return None
            self._store(self._device_record())
            return held

        forgotten = yield from self._locked(forget)
        if forgotten and self._on_signed_out:
            self._on_signed_out(reason)
        return forgotten

    def _locked(self, work: Callable[[], T]) -> Steps[T]:
        """Runs `work`, which reads and writes the storage, while nobody else does.

        To wait for the lock of a storage must not hold up an event loop, so the client runs it. A storage
        without a lock is this client's alone.
        """
        if self._lock is None:
            with self._own_lock:
                return work()
        lock = self._lock

        def locked() -> T:
            with lock():
                return work()

        result: T = yield locked
        return result

    def _save(self, others: Record, tokens: Tokens) -> Tokens:
        """Stores tokens, under the lock, and returns them.

        A refresh token that is already held keeps its key, because it may have been sent with that key:
        within a reuse interval the server returns the same one, and `set_tokens` may get it again.
        """
        held = Tokens.from_record(self._load())
        if held and held.key and held.refresh_token == tokens.refresh_token:
            tokens = replace(tokens, key=held.key)
        self._store({**others, **vars(tokens)})
        return tokens

    def _load(self) -> Record:
        """Returns the members that are stored for this API, never those of another API."""
        return self._everything()[self._api]

    def _store(self, record: Record) -> None:
        """Stores the members for this API. Call it under the lock."""
        self._storage.save({**self._everything(), self._api: record})

    def _everything(self) -> dict[str, Record]:
        """Returns what is stored for each API.

        With `adopt_legacy_tokens`, tokens that older code stored without an API belong to this API, if
        nothing is stored for it yet. The first change stores them so.
        """
        everything = self._storage.load() or {}
        if not isinstance(everything.get(self._api), dict):
            legacy = _LEGACY if self._adopts_legacy else ()
            taken = {name: everything[name] for name in legacy if name in everything}
            others = {name: value for name, value in everything.items() if name not in taken}
            everything = {**others, self._api: taken}
        return everything

    def _device_record(self) -> Record:
        """Returns what outlives the session: the device token."""
        token = self._load().get("device_token")
        return {"device_token": token} if isinstance(token, str) else {}

    def _device(self) -> dict[str, str]:
        token = self._device_record().get("device_token")
        return {"x-device-token": token} if token else {}

    def _request(self, method: str, path: str, **parts: Any) -> httpx.Request:
        return self._build(method, self._base + path, **parts)


def _pause(outcome: Outcome, attempt: int, tries: int) -> float | None:
    """Returns how many seconds to wait before the next try, or None if there is none.

    The pause is random and longer each time ("full jitter", so that clients do not return all at once), in
    addition to the server's Retry-After.
    """
    at_least = (retry_after(outcome) or 0.0) if isinstance(outcome, httpx.Response) else 0.0
    if attempt == tries or at_least > PATIENCE:
        return None
    return at_least + random.uniform(0, BACKOFF * 2 ** (attempt - 1))  # noqa: S311 - no secret


def _error(outcome: Outcome, code: str | None = None) -> FreshkeyError:
    error = FreshkeyError.of(outcome, code)
    error.__cause__ = outcome if isinstance(outcome, httpx.RequestError) else None
    return error


def _body(answer: httpx.Response, member: str) -> Any:
    """Returns the body of an answer. Raises `FreshkeyError` unless it is a success and has this member."""
    body = json_object(answer)
    if not answer.is_success or member not in body:
        raise FreshkeyError.of(answer)
    return body


def _done(answer: httpx.Response, status: int = 204) -> None:
    """Raises `FreshkeyError` unless the answer has this status. A page of a captive portal has 200."""
    if answer.status_code != status:
        raise FreshkeyError.of(answer)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    """Returns the origin of a URL. Raises ValueError unless it is an http or https URL with a host."""
    if url.scheme not in _PORTS or not url.host:
        raise ValueError(f"{url.scheme or 'A path'!r} is no http or https URL.")
    return url.scheme, url.host, url.port or _PORTS[url.scheme]


def _api(url: httpx.URL) -> str:
    """Returns the name under which the members of an API are stored: its origin and path."""
    scheme, _, _ = _origin(url)
    host = url.netloc.decode().removesuffix(f":{_PORTS[scheme]}")
    return f"{scheme}://{host}{url.path.rstrip('/')}"
