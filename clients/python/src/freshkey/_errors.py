"""What goes wrong, in one type."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypedDict

import httpx

_CODES = {
    400: "invalid_request",
    401: "invalid_credentials",
    404: "not_found",
    409: "email_taken",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "validation_failed",
    429: "rate_limited",
    503: "temporarily_unavailable",
    504: "temporarily_unavailable",
}
"""The code for an answer that names none: the lexik dialect's, and API Gateway's own."""


class FieldError(TypedDict):
    """What is wrong with one field of a request (status 422)."""

    field: str
    code: str
    message: str


class FreshkeyError(Exception):
    """A request that was refused or not answered. You are still signed in, unless it is `SignedOut`."""

    status: int
    """The HTTP status; 0 when no answer came."""
    code: str
    """What went wrong, for machines: the server's `error`, or `network` when no answer came."""
    detail: str
    """What went wrong, for people."""
    fields: list[FieldError]
    """What is wrong with which field, for a status of 422."""
    retry_after: float | None
    """After how many seconds to try again, where the server says so."""
    request_id: str | None
    """What the server's log calls this request."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        fields: list[FieldError] | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        """An error of these parts."""
        super().__init__(status, code, detail, fields, retry_after, request_id)
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = fields or []
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        """What went wrong, with the status and the code."""
        return f"{self.detail} ({self.status} {self.code})" if self.status else f"{self.detail} ({self.code})"

    @classmethod
    def of(cls, outcome: httpx.Response | httpx.RequestError) -> FreshkeyError:
        """The error that an answer reports (RFC 9457, or a `message` alone), or that took its place."""
        if isinstance(outcome, httpx.RequestError):
            return cls(0, "network", f"No answer came: {type(outcome).__name__}.")
        status, body = outcome.status_code, json_object(outcome)
        if outcome.is_success:
            return cls(status, "unreadable", "The answer is not what was asked for.")
        return cls(
            status,
            _text(body.get("error")) or _CODES.get(status) or ("internal" if status >= 500 else "unexpected"),
            _text(body.get("detail"))
            or _text(body.get("message"))
            or outcome.reason_phrase
            or "No reason given.",
            body["errors"] if isinstance(body.get("errors"), list) else None,
            retry_after(outcome),
            _text(body.get("request_id")),
        )


class SignedOut(FreshkeyError):
    """Nobody is signed in: nobody was, or the server has ended the session. Log in again."""


def retry_after(response: httpx.Response) -> float | None:
    """The seconds that Retry-After says (RFC 9110, section 10.2.3: a number, or a date)."""
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
    """The members of the answer's body; none, if it is not a JSON object."""
    try:
        body = response.json()
    except ValueError:  # what is no JSON, and what is no UTF-8
        return {}
    return body if isinstance(body, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
