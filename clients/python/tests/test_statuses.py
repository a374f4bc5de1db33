"""What an answer without an `error` means: clients/statuses.json, which the TypeScript client also reads."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from conftest import Connect
from support import PASSWORD, ROOT

from freshkey import FreshkeyError, MemoryStorage, SignedOutError, _core

pytestmark = pytest.mark.anyio

TABLE: dict[str, Any] = json.loads((ROOT / "clients" / "statuses.json").read_text())
ROWS = [
    (row, dialect) for row in TABLE["answers"] if "body" in row["transports"] for dialect in row["dialects"]
]
NAMED = {row["status"] for row in TABLE["answers"]}
TOKENS = {"access_token": "new", "token": "new", "refresh_token": "new", "expires_in": 3600}
PATHS = {
    "login": ("/login", "/auth"),
    "refresh": ("/refresh",),
    "forgot": ("/forgot",),
    "reset": ("/reset",),
    "call": ("/me",),
}


async def outcome(
    connect: Connect, dialect: str, request: str, status: int, body: object
) -> tuple[FreshkeyError, int, bool]:
    """Makes a request that is answered so. Returns the error, how often it was sent, and who is signed in."""
    sent: list[httpx.Request] = []

    def answer(received: httpx.Request) -> httpx.Response:
        if not received.url.path.endswith(PATHS[request]):
            return httpx.Response(200, json=TOKENS)  # the refresh after a 401
        sent.append(received)
        return httpx.Response(status) if body is None else httpx.Response(status, json=body)

    client = connect("http://api.example", dialect=dialect, answer=answer, storage=MemoryStorage())
    await client.set_tokens("old", "old", 3600)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "login": lambda: client.login("ada@example.com", PASSWORD),
        "refresh": client.refresh_access_token,
        "forgot": lambda: client.request_password_reset("ada@example.com"),
        "reset": lambda: client.reset_password("token", PASSWORD),
        "call": client.me,
    }
    with pytest.raises(FreshkeyError) as failed:
        await calls[request]()
    return failed.value, len(sent), client.is_signed_in


@pytest.mark.parametrize(("row", "dialect"), ROWS, ids=lambda part: str(part)[:100])
async def test_an_answer_means_what_the_table_says(
    connect: Connect, row: dict[str, Any], dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "BACKOFF", 0)
    request, status = row["request"], row["status"]
    error, sent, is_signed_in = await outcome(connect, dialect, request, status, row["body"])
    assert (error.status, error.code) == (status, row["code"])
    assert isinstance(error, SignedOutError) == row["signs_out"] == (not is_signed_in)
    after_the_refresh = request == "call" and status == 401
    assert sent == (5 if row["retried"] else 2 if after_the_refresh else 1)


@pytest.mark.parametrize("request_", ["login", "refresh", "call"])
@pytest.mark.parametrize("dialect", ["v1", "lexik"])
async def test_any_other_status_is_the_code(connect: Connect, request_: str, dialect: str) -> None:
    for status in range(400, 600):
        if status not in NAMED:
            error, sent, is_signed_in = await outcome(connect, dialect, request_, status, None)
            assert error.code == TABLE["other"].format(status=status)
            assert (sent, is_signed_in) == (1, True)
            assert not isinstance(error, SignedOutError)
