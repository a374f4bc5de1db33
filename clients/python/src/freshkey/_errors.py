"""The errors of the client, all of one type."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypedDict

import httpx

_CODES = {
    400: "invalid_request",
    401: "invalid_token",
    403: "forbidden",
    404: "not_found",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "validation_failed",
    429: "rate_limited",
    500: "internal",
    502: "temporarily_unavailable",
    503: "temporarily_unavailable",
    504: "temporarily_unavailable",
}
"""The codes of answers without an `error`: those of API Gateway and of the lexik dialect.

Both clients are tested against the table in clients/statuses.json."""


class FieldError(TypedDict):
    """What is wrong with one field of a request (status 422)."""

    field: str
    code: str
    message: str


class FreshkeyError(Exception):
    """A request was refused, or no answer arrived. Only a `SignedOutError` means: signed out."""

    status: int
    """The HTTP status, or 0 when no answer arrived."""
    code: str
    """What went wrong, for programs: the server's `error`, or one of the client's own codes.

    The client's own codes are `network` (no answer arrived), `unreadable` (the answer is not the expected
    one), `not_signed_in`, and for an answer without an `error` one that follows from the status.
    """
    detail: str
    """What went wrong, for people."""
    fields: list[FieldError]
    """The invalid fields, for a status of 422."""
    retry_after: float | None
    """How many seconds to wait before the next try, if the server said so."""
    request_id: str | None
    """The id of the request in the server's log."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        fields: list[FieldError] | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        """Sets the attributes of the same names."""
        super().__init__(status, code, detail, fields, retry_after, request_id)
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = fields or []
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        """Returns the detail, the status and the code."""
        return f"{self.detail} ({self.status} {self.code})" if self.status else f"{self.detail} ({self.code})"

    @classmethod
    def of(cls, outcome: httpx.Response | httpx.RequestError, code: str | None = None) -> FreshkeyError:
        """Returns the error for an answer (RFC 9457, or one with only a `message`), or for a missing answer.

        `code` is used where the answer has no `error`.
        """
        if isinstance(outcome, httpx.RequestError):
            return cls(0, "network", f"No answer arrived: {type(outcome).__name__}.")
        status, body = outcome.status_code, json_object(outcome)
        if outcome.is_success:
            return cls(status, "unreadable", "The answer is not the expected one.")
        fallback = _CODES.get(status, f"http_{status}" if status >= 400 else "unreadable")
        return cls(
            status,
            _text(body.get("error")) or code or fallback,
            _text(body.get("detail"))
            or _text(body.get("message"))
            or outcome.reason_phrase
            or "No reason given.",
            body["errors"] if isinstance(body.get("errors"), list) else None,
            retry_after(outcome),
            _text(body.get("request_id")),
        )


class SignedOutError(FreshkeyError):
    """Nobody is signed in, or the server has ended the session. The user must log in again."""


def retry_after(response: httpx.Response) -> float | None:
    """Returns the seconds in Retry-After (RFC 9110, section 10.2.3: a number or a date), if there is one."""
    value = response.headers.get("retry-after", "")
    if value.isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(
        0.0, (at.replace(tzinfo=at.tzinfo or timezone.utc) - datetime.now(timezone.utc)).total_seconds()
    )


def json_object(response: httpx.Response) -> dict[str, Any]:
    """Returns the members of the answer's body, or nothing if the body is not a JSON object."""
    try:
        body = response.json()
    except (ValueError, RecursionError):  # ValueError: not JSON, or not UTF-8
        return {}
    return body if isinstance(body, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
