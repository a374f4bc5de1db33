"""The tokens of one session, and when they are to be refreshed."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BUFFER = 300.0
"""How many seconds ahead of its expiry an access token is refreshed: never more than half its lifetime."""


@dataclass(frozen=True)
class Tokens:
    """What a session is used with. Its `repr` shows none of it."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float
    """When the access token expires, in seconds since the epoch by this machine's clock."""
    lifetime: float
    """How many seconds the access token was good for when it came."""
    key: str = field(repr=False)
    """The Idempotency-Key of this refresh token's rotation: random, and of this refresh token alone."""

    def is_expired(self, now: float) -> bool:
        """Whether the access token has expired, by this machine's clock."""
        return now >= self.expires_at

    def is_due(self, now: float) -> bool:
        """Whether the access token is to be refreshed: it expires soon."""
        return now >= self.expires_at - min(BUFFER, self.lifetime / 2)

    @classmethod
    def new(
        cls, access_token: object, refresh_token: object, expires_in: object, now: float
    ) -> Tokens | None:
        """Tokens that have just come, with a key of their own; None, if they are none.

        Where an answer does not say how many seconds the access token is good for, the token does
        (`exp` - `iat`). Either is counted from now, so that a skewed clock does no harm.
        """
        if not (isinstance(access_token, str) and isinstance(refresh_token, str)):
            return None
        lifetime = _number(expires_in)
        if lifetime is None:
            lifetime = _lifetime(claims(access_token))
        if lifetime is None:
            return None
        return cls(access_token, refresh_token, now + lifetime, lifetime, new_key())

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Tokens | None:
        """The tokens that a storage kept; None, if it holds none.

        The two tokens are enough, so that what older code stored can be taken over; the rest is
        then read from the access token. Without a `key` they have an empty one, and need their own.
        """
        access_token, refresh_token = record.get("access_token"), record.get("refresh_token")
        if not (isinstance(access_token, str) and isinstance(refresh_token, str)):
            return None
        said = claims(access_token)
        expires_at = _number(record.get("expires_at"))
        if expires_at is None:
            expires_at = _number(said.get("exp")) or 0.0
        lifetime = _number(record.get("lifetime"))
        if lifetime is None:
            lifetime = _lifetime(said) or 0.0
        key = record.get("key")
        return cls(access_token, refresh_token, expires_at, lifetime, key if isinstance(key, str) else "")


def claims(token: str) -> dict[str, Any]:
    """What a JWT says, unverified (RFC 7519); nothing, if it is none."""
    try:
        payload = token.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def new_key() -> str:
    """An Idempotency-Key. It is not derived from the token: who steals that would know it."""
    return secrets.token_urlsafe(24)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _lifetime(said: Mapping[str, Any]) -> float | None:
    issued, expires = _number(said.get("iat")), _number(said.get("exp"))
    return None if issued is None or expires is None else expires - issued
