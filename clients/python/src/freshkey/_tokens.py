"""The tokens of one session, and when they are due for a refresh."""

from __future__ import annotations

import base64
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BUFFER = 300
"""How many seconds before its expiry an access token is refreshed, but never more than half its lifetime."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of one session. Its `repr` shows no secret."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: int
    """When the access token expires, in whole seconds since the epoch, by this machine's clock."""
    due_at: int
    """When the access token is due for a refresh, in the same unit."""
    key: str = field(repr=False)
    """The Idempotency-Key of this refresh token's rotation: random, and used for no other refresh token."""

    def is_expired(self, now: float) -> bool:
        """Whether the access token has expired at `now`, in seconds since the epoch."""
        return now >= self.expires_at

    def is_due(self, now: float) -> bool:
        """Whether the access token is due for a refresh at `now`, in seconds since the epoch."""
        return now >= self.due_at

    @classmethod
    def new(
        cls,
        access_token: object,
        refresh_token: object,
        expires_in: object,
        refresh_expires_in: object,
        now: float,
    ) -> Tokens | None:
        """Returns the tokens of an answer that has just arrived, with a new key, or None if it has none.

        `expires_in` and `refresh_expires_in` are in seconds. Where the answer has no `expires_in`, the
        lifetime is read from the access token (`exp` - `iat`). Either is counted from `now`, so a clock
        that is wrong does no harm.
        """
        if not (isinstance(access_token, str) and isinstance(refresh_token, str)):
            return None
        lifetime = _number(expires_in)
        if lifetime is None:
            lifetime = _lifetime(claims(access_token))
        if lifetime is None:
            return None
        session = _number(refresh_expires_in)
        is_last = _is_last(access_token, refresh_token) if session is None else lifetime >= session
        expires_at = int(now + lifetime)
        return cls(access_token, refresh_token, expires_at, _due_at(expires_at, lifetime, is_last), new_key())

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Tokens | None:
        """Returns the tokens of a stored record, or None if it holds no tokens.

        The two tokens are enough, so tokens that other code stored can be taken over: the times are then
        read from the access token. Without a stored `key` the key is empty, and the tokens need one
        before they are sent.
        """
        access_token, refresh_token = record.get("access_token"), record.get("refresh_token")
        if not (isinstance(access_token, str) and isinstance(refresh_token, str)):
            return None
        contents, key = claims(access_token), record.get("key")
        expires_at = int(_first(record.get("expires_at"), contents.get("exp")))
        due_at = _number(record.get("due_at"))
        if due_at is None:
            due_at = _due_at(expires_at, _lifetime(contents) or 0, _is_last(access_token, refresh_token))
        return cls(access_token, refresh_token, expires_at, int(due_at), key if isinstance(key, str) else "")


def claims(token: str) -> dict[str, Any]:
    """Returns the claims of a JWT (RFC 7519), unverified, or nothing if the token is not a JWT."""
    try:
        payload = token.split(".")[1]
        contents = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return contents if isinstance(contents, dict) else {}


def new_key() -> str:
    """Returns a random Idempotency-Key. A thief could work out one that was derived from the token."""
    return secrets.token_urlsafe(24)


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None  # type: ignore[arg-type,return-value]


def _first(*values: object) -> float:
    """Returns the first of the values that is a number, or 0."""
    return next((number for number in map(_number, values) if number is not None), 0)


def _lifetime(contents: Mapping[str, Any]) -> float | None:
    issued, expires = _number(contents.get("iat")), _number(contents.get("exp"))
    return None if issued is None or expires is None else expires - issued


def _is_last(access_token: str, refresh_token: str) -> bool:
    """Whether the access token is good until its session ends: a refresh would not give a later one."""
    expires, session = (_number(claims(token).get("exp")) for token in (access_token, refresh_token))
    return expires is not None and session is not None and expires >= session


def _due_at(expires_at: int, lifetime: float, is_last: bool) -> int:
    return expires_at if is_last else expires_at - int(min(BUFFER, lifetime / 2))
