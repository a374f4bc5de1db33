"""A client for Freshkey: signs in, keeps the tokens fresh, and stays signed in whatever the network does."""

from ._client import AsyncAuthClient, AsyncBearerAuth, AuthClient, BearerAuth
from ._core import Dialect, Session, SignedOutReason, User
from ._errors import FieldError, FreshkeyError, SignedOutError
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
    "SignedOutError",
    "SignedOutReason",
    "Storage",
    "Tokens",
    "User",
]
