"""A forgotten password, and the proof of an address: what is sent, and what the answers mean.

test_mail.py goes through the mails of the real system.
"""

import json
from typing import Any

import httpx
import pytest
from conftest import Connect
from support import held

from freshkey import FreshkeyError, MemoryStorage, SignedOutError, _core

pytestmark = pytest.mark.anyio

FORGOT = "POST /api/v1/auth/password/forgot"
RESET = "POST /api/v1/auth/password/reset"
RESEND = "POST /api/v1/users/me/email/verification"
CHANGE = "PUT /api/v1/users/me/email"
CONFIRM = "POST /api/v1/users/me/email/confirm"
REFRESH = "POST /api/v1/auth/refresh"

API = "http://api.example"
TOKEN = "Zk3_-" * 8 + "abc"
PASSWORD = "a quiet river under seven bridges"
USER = {"id": "1", "email": "ada@example.com", "email_verified": True}

Reply = tuple[int, Any] | None
"""A status and a body in JSON, or None where no answer arrives."""
LOST: Reply = None
ACCEPTED: Reply = (202, {})
DONE: Reply = (204, None)
REFRESHED: Reply = (200, {"access_token": "new", "refresh_token": "next", "expires_in": 3600})


def problem(status: int, error: str, **members: Any) -> Reply:
    """Returns a problem document."""
    return status, {"status": status, "error": error, "detail": "Not so.", **members}


PASSING = [LOST, problem(503, "temporarily_unavailable"), problem(429, "rate_limited"), (500, None)]


class Server:
    """Gives these replies to a kind of request, one after the other, and then the last again and again."""

    def __init__(self, replies: dict[str, list[Reply]]) -> None:
        self._replies = replies
        self.sent: list[tuple[str, httpx.Request]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        kind = f"{request.method} {request.url.path}"
        replies = self._replies[kind]
        reply = replies[min(len(self.requests(kind)), len(replies) - 1)]
        self.sent.append((kind, request))
        if reply is None:
            raise httpx.ReadError("lost", request=request)
        status, body = reply
        return httpx.Response(status) if body is None else httpx.Response(status, json=body)

    def requests(self, kind: str) -> list[httpx.Request]:
        """Returns the requests of a kind so far."""
        return [request for each, request in self.sent if each == kind]

    def keys(self, kind: str) -> list[str]:
        """Returns the Idempotency-Key of each request of a kind."""
        return [request.headers["idempotency-key"] for request in self.requests(kind)]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries."""
    monkeypatch.setattr(_core, "BACKOFF", 0)


@pytest.mark.parametrize("expires_in", [3600, 0])
async def test_a_reset_is_asked_for_without_a_token(connect: Connect, expires_in: int) -> None:
    server = Server({FORGOT: [ACCEPTED]})
    client = connect(API, answer=server)
    await client.set_tokens("old", "old", expires_in)
    await client.request_password_reset("ada@example.com")
    [(kind, request)] = server.sent
    assert (kind, json.loads(request.content)) == (FORGOT, {"email": "ada@example.com"})
    assert "authorization" not in request.headers


@pytest.mark.parametrize("reply", PASSING)
async def test_a_reset_is_asked_for_once(connect: Connect, reply: Reply) -> None:
    server = Server({FORGOT: [reply]})
    with pytest.raises(FreshkeyError):
        await connect(API, answer=server).request_password_reset("ada@example.com")
    assert len(server.sent) == 1, "each request may send a mail"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (problem(422, "validation_failed", errors=[{"field": "email"}]), "validation_failed"),
        ((404, {"message": "Not Found"}), "not_found"),
        ((200, {}), "unreadable"),
    ],
)
async def test_a_refusal_to_send_a_mail_has_its_code(connect: Connect, reply: Reply, code: str) -> None:
    with pytest.raises(FreshkeyError) as failed:
        await connect(API, answer=Server({FORGOT: [reply]})).request_password_reset("ada")
    assert failed.value.code == code
    assert [field["field"] for field in failed.value.fields] == ["email"] * (code == "validation_failed")


async def test_a_reset_sends_the_tokens_of_the_link_and_of_no_session(connect: Connect) -> None:
    server = Server({RESET: [DONE], REFRESH: [problem(401, "invalid_refresh_token")]})
    client = connect(API, answer=server)
    await client.set_tokens("old", "old", 0)
    await client.reset_password(TOKEN, PASSWORD)
    [request] = server.requests(RESET)
    assert json.loads(request.content) == {"token": TOKEN, "new_password": PASSWORD}
    assert "authorization" not in request.headers


@pytest.mark.parametrize("reply", PASSING)
async def test_a_reset_is_repeated_with_the_same_key(connect: Connect, reply: Reply) -> None:
    server = Server({RESET: [reply, reply, DONE]})
    await connect(API, answer=server).reset_password(TOKEN, PASSWORD)
    assert len(server.keys(RESET)) == 3
    assert len(set(server.keys(RESET))) == 1


@pytest.mark.parametrize("reply", [*PASSING, (200, {})])
async def test_a_reset_that_fails_is_the_same_attempt_when_the_caller_repeats_it(
    connect: Connect, reply: Reply
) -> None:
    server = Server({RESET: [reply] * (1 if reply == (200, {}) else 5) + [DONE]})
    client = connect(API, answer=server)
    with pytest.raises(FreshkeyError):
        await client.reset_password(TOKEN, PASSWORD)
    await client.reset_password(TOKEN, PASSWORD)
    assert len(set(server.keys(RESET))) == 1


async def test_each_link_and_each_client_has_its_own_key(connect: Connect) -> None:
    server = Server({RESET: [DONE]})
    client = connect(API, answer=server)
    for token in ("", TOKEN, ""):
        await client.reset_password(token, PASSWORD)
    await connect(API, answer=server).reset_password(TOKEN, PASSWORD)
    assert len(set(server.keys(RESET))) == 4
    assert min(map(len, server.keys(RESET))) >= 32


async def test_a_link_that_is_no_longer_good_is_reported_at_once(connect: Connect) -> None:
    server = Server({RESET: [problem(400, "invalid_link")]})
    with pytest.raises(FreshkeyError) as failed:
        await connect(API, answer=server).reset_password(TOKEN, PASSWORD)
    assert (failed.value.status, failed.value.code) == (400, "invalid_link")
    assert len(server.sent) == 1


async def test_a_refused_password_is_reported_at_once_and_shown_nowhere(connect: Connect) -> None:
    wrong = [{"field": "new_password", "code": "password_too_short", "message": "Longer."}]
    server = Server({RESET: [problem(422, "validation_failed", errors=wrong)]})
    with pytest.raises(FreshkeyError) as failed:
        await connect(API, answer=server).reset_password(TOKEN, PASSWORD)
    assert failed.value.fields == wrong
    assert len(server.sent) == 1
    assert not any(secret in str(failed.value) + repr(failed.value) for secret in (TOKEN, PASSWORD))


async def test_a_reset_signs_out_the_session_that_it_has_ended(connect: Connect) -> None:
    reasons: list[str] = []
    server = Server({RESET: [DONE], REFRESH: [problem(401, "invalid_refresh_token")]})
    client = connect(API, answer=server, on_signed_out=reasons.append)
    await client.reset_password(TOKEN, PASSWORD)
    assert server.requests(REFRESH) == [], "nobody was signed in"
    await client.set_tokens("old", "old", 3600)
    await client.reset_password(TOKEN, PASSWORD)
    assert not client.is_signed_in
    assert reasons == ["session_ended"]


@pytest.mark.parametrize(("reply", "access_token"), [(REFRESHED, "new"), (LOST, "old")])
async def test_a_reset_leaves_another_user_signed_in(
    connect: Connect, reply: Reply, access_token: str
) -> None:
    client = connect(API, answer=Server({RESET: [DONE], REFRESH: [reply]}))
    await client.set_tokens("old", "old", 3600)
    await client.reset_password(TOKEN, PASSWORD)
    assert await client.access_token() == access_token


async def test_a_verification_is_sent_again_with_the_access_token(connect: Connect) -> None:
    server = Server({RESEND: [ACCEPTED, problem(429, "rate_limited")]})
    client = connect(API, answer=server)
    await client.set_tokens("old", "old", 3600)
    await client.resend_verification()
    [request] = server.requests(RESEND)
    assert request.headers["authorization"] == "Bearer old"
    assert request.content == b""
    with pytest.raises(FreshkeyError) as failed:
        await client.resend_verification()
    assert failed.value.code == "rate_limited"
    assert len(server.sent) == 2


async def test_a_change_of_the_address_sends_the_password_and_the_device_token_once(connect: Connect) -> None:
    server = Server({CHANGE: [ACCEPTED, LOST], CONFIRM: [(200, {**USER, "device_token": "device"})]})
    client = connect(API, answer=server)
    await client.set_tokens("old", "old", 3600)
    await client.confirm_email(TOKEN)
    await client.change_email("lovelace@example.com", PASSWORD)
    [request] = server.requests(CHANGE)
    assert json.loads(request.content) == {"email": "lovelace@example.com", "password": PASSWORD}
    assert request.headers["x-device-token"] == "device"
    with pytest.raises(FreshkeyError) as failed:
        await client.change_email("lovelace@example.com", PASSWORD)
    assert failed.value.code == "network"
    assert len(server.requests(CHANGE)) == 2


async def test_a_confirmation_returns_the_user_and_keeps_the_device_token(connect: Connect) -> None:
    storage = MemoryStorage()
    server = Server({CONFIRM: [(200, {**USER, "device_token": "device"}), (200, USER)]})
    client = connect(API, answer=server, storage=storage)
    await client.set_tokens("old", "old", 3600)
    for _ in range(2):
        assert await client.confirm_email(TOKEN) == USER
        assert held(storage)["device_token"] == "device"
    assert (await client.access_token(), held(storage)["refresh_token"]) == ("old", "old")
    [request, _] = server.requests(CONFIRM)
    assert json.loads(request.content) == {"token": TOKEN}
    assert request.headers["authorization"] == "Bearer old"


async def test_a_confirmation_is_one_attempt_whatever_is_lost(connect: Connect) -> None:
    replies = [LOST] * 5 + [problem(401, "invalid_token"), LOST, (200, USER)]
    server = Server({CONFIRM: replies, REFRESH: [REFRESHED]})
    client = connect(API, answer=server)
    await client.set_tokens("old", "old", 3600)
    with pytest.raises(FreshkeyError):
        await client.confirm_email(TOKEN)
    assert await client.confirm_email(TOKEN) == USER
    assert len(server.keys(CONFIRM)) == 8
    assert len(set(server.keys(CONFIRM))) == 1
    assert server.requests(CONFIRM)[-1].headers["authorization"] == "Bearer new"


@pytest.mark.parametrize(
    ("reply", "code"),
    [(problem(400, "invalid_link"), "invalid_link"), (problem(409, "email_taken"), "email_taken")],
)
async def test_a_refused_confirmation_has_its_code(connect: Connect, reply: Reply, code: str) -> None:
    server = Server({CONFIRM: [reply]})
    client = connect(API, answer=server)
    await client.set_tokens("old", "old", 3600)
    with pytest.raises(FreshkeyError) as failed:
        await client.confirm_email(TOKEN)
    assert failed.value.code == code
    assert len(server.sent) == 1
    assert client.is_signed_in


async def test_what_a_user_does_needs_a_session(connect: Connect) -> None:
    client = connect(API, answer=Server({}))
    for call in (
        client.resend_verification(),
        client.change_email("ada@example.com", PASSWORD),
        client.confirm_email(TOKEN),
    ):
        with pytest.raises(SignedOutError):
            await call


async def test_a_call_with_a_key_is_repeated_whatever_its_method(connect: Connect) -> None:
    server = Server({"POST /orders": [LOST, problem(503, "busy"), (200, 1)]})
    client = connect(API, answer=server)
    await client.set_tokens("old", "old", 3600)
    answer = await client.post("/orders", headers={"Idempotency-Key": "one"}, json={})
    assert answer.json() == 1
    assert server.keys("POST /orders") == ["one"] * 3
