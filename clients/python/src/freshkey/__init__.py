"""A client for Freshkey: signs in, keeps the tokens fresh, and is never signed out by bad luck."""

from ._client import AsyncAuthClient, AsyncBearerAuth, AuthClient, BearerAuth
from ._core import Dialect, Session, SignedOutReason, User
from ._errors import FieldError, FreshkeyError, SignedOut
from ._storage import FileStorage, MemoryStorage, Record, Storage
from ._tokens import Tokens

__all__ = [
    "AsyncAuthClient",
    "AsyncBearerAuth",
    "AuthClient",
    "BearerAuth",
    "Dialect",
    "FieldError",
    "FileStorage",
    "FreshkeyError",
    "MemoryStorage",
    "Record",
    "Session",
    "SignedOut",
    "SignedOutReason",
    "Storage",
    "Tokens",
    "User",
]
