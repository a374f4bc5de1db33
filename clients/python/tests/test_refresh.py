"""Refreshing: how often, when it is repeated, and what ends a session."""

import asyncio
import base64
import json
import time
from typing import Any

import httpx
import pytest
import support
from conftest import Connect
from support import PASSWORD, REFRESH, Proxy, a_user, advance, alter, generation, held, post

from freshkey import (
    AsyncAuthClient,
    AuthClient,
    Dialect,
    FreshkeyError,
    MemoryStorage,
    Record,
    SignedOutError,
    _core,
)

pytestmark = pytest.mark.anyio

ME = "/api/v1/users/me"


def age(storage: MemoryStorage, seconds: float) -> None:
    """Lets the access token expire in that many seconds, as far as the client knows."""
    alter(storage, expires_at=time.time() + seconds, due_at=None)


async def signed_in(connect: Connect, url: str, **options: Any) -> tuple[AsyncAuthClient, MemoryStorage]:
    """Returns a client that has just logged in, and its storage."""
    storage = MemoryStorage()
    client = connect(url, storage=storage, **options)
    await client.login(a_user(url), PASSWORD)
    return client, storage


async def statuses(client: AsyncAuthClient, calls: int) -> set[int]:
    """Makes that many calls at once and returns the statuses of their answers."""
    answers = await asyncio.gather(*(client.request("GET", ME) for _ in range(calls)))
    return {answer.status_code for answer in answers}


async def when_held(proxy: Proxy) -> None:
    """Waits until the server has carried out a refresh whose answer is held."""
    await asyncio.to_thread(
        support.until, lambda: any(entry["status"] for entry in proxy.requests("POST") if entry["fault"])
    )


# How often.


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
async def test_a_hundred_calls_over_an_expiry_cost_one_refresh(
    connect: Connect, local: str, proxy: Proxy, dialect: Dialect
) -> None:
    client, storage = await signed_in(connect, proxy.url, dialect=dialect)
    advance(local, 3601)
    age(storage, -1)
    proxy.clear()
    assert await statuses(client, 100) == {200}
    assert len([entry for entry in proxy.requests() if entry["path"].endswith("/refresh")]) == 1
    assert generation(held(storage)["refresh_token"]) == 2


async def test_a_hundred_calls_that_are_refused_cost_one_refresh(
    connect: Connect, local: str, proxy: Proxy
) -> None:
    client, _ = await signed_in(connect, proxy.url)
    advance(local, 3601)  # the clock of the client is behind
    proxy.clear()
    assert await statuses(client, 100) == {200}
    assert any(entry["status"] == 401 for entry in proxy.requests(f"GET {ME}"))
    assert len(proxy.requests(REFRESH)) == 1


class Counted(MemoryStorage):
    """A storage that counts how often it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[None] = []

    def load(self) -> Record | None:
        self.loads.append(None)
        return super().load()


async def test_a_hundred_refreshes_at_once_are_one(connect: Connect, proxy: Proxy) -> None:
    storage = Counted()
    client = connect(proxy.url, storage=storage)
    await client.login(a_user(proxy.url), PASSWORD)
    proxy.next("hold")
    storage.loads.clear()
    calls = [asyncio.create_task(client.refresh_access_token()) for _ in range(100)]
    await when_held(proxy)
    # Each reads twice before it waits for the first, which reads three times more.
    await asyncio.to_thread(support.until, lambda: len(storage.loads) >= 203)
    proxy.release()
    assert set(await asyncio.gather(*calls)) == {held(storage)["access_token"]}
    assert len(proxy.requests(REFRESH)) == 1
    assert generation(held(storage)["refresh_token"]) == 2


async def test_a_good_access_token_is_not_refreshed(
    connect: Connect, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, storage = await signed_in(connect, proxy.url)
    now = time.time()
    monkeypatch.setattr("freshkey._core.time.time", lambda: now)
    age(storage, 301)
    await client.me()
    assert proxy.requests(REFRESH) == []
    age(storage, 299)
    await client.me()
    assert len(proxy.requests(REFRESH)) == 1


async def test_the_buffer_is_at_most_half_the_lifetime(connect: Connect, hasty: str) -> None:
    with support.proxy(hasty) as proxy:
        client, storage = await signed_in(connect, proxy.url)
        assert held(storage)["expires_at"] - held(storage)["due_at"] in (2, 3)
        age(storage, 5)
        await client.me()
        assert proxy.requests(REFRESH) == []
        age(storage, 2)
        await client.me()
        assert len(proxy.requests(REFRESH)) == 1


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
@pytest.mark.parametrize("skew", [-86400, 86400])
async def test_a_skewed_clock_does_no_harm(
    connect: Connect, proxy: Proxy, dialect: Dialect, skew: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr("freshkey._core.time.time", lambda: now() + skew)
    client, storage = await signed_in(connect, proxy.url, dialect=dialect)
    assert held(storage)["expires_at"] == pytest.approx(now() + skew + 3600, abs=20)
    assert isinstance(held(storage)["expires_at"], int), "whole seconds"
    await client.me()
    assert generation(held(storage)["refresh_token"]) == 1


# What is lost, and what is refused for a time.


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
@pytest.mark.parametrize("fault", ["dropAnswer", "dropRequest", "tooMany", "unavailable", "limited"])
async def test_a_fault_is_survived_with_the_same_key(
    connect: Connect, proxy: Proxy, fault: str, dialect: Dialect
) -> None:
    client, storage = await signed_in(connect, proxy.url, dialect=dialect)
    key = held(storage)["key"]
    proxy.clear()
    proxy.next(fault, fault if fault.startswith("drop") else "pass")
    began = time.monotonic()
    await client.refresh_access_token()
    tries = proxy.requests()
    assert len(tries) == (3 if fault.startswith("drop") else 2)
    assert {entry["headers"]["idempotency-key"] for entry in tries} == {key}
    assert generation(held(storage)["refresh_token"]) == 2
    assert held(storage)["key"] not in ("", key), "each refresh token has its own key"
    if fault in ("unavailable", "limited"):
        assert time.monotonic() - began >= 1, "Retry-After is waited for"


async def test_an_outage_is_reported_and_signs_nobody_out(connect: Connect, proxy: Proxy) -> None:
    reasons: list[str] = []
    client, storage = await signed_in(connect, proxy.url, on_signed_out=reasons.append)
    proxy.set(dropRequest=1)
    with pytest.raises(FreshkeyError) as failed:
        await client.refresh_access_token()
    assert not isinstance(failed.value, SignedOutError)
    assert (failed.value.status, failed.value.code) == (0, "network")
    assert isinstance(failed.value.__cause__, httpx.TransportError)
    assert len(proxy.requests(REFRESH)) == 5
    proxy.set()
    await client.refresh_access_token()
    assert generation(held(storage)["refresh_token"]) == 2
    assert reasons == []


async def test_calls_that_wait_for_a_refresh_share_its_failure(connect: Connect, proxy: Proxy) -> None:
    client, storage = await signed_in(connect, proxy.url)
    age(storage, -1)
    proxy.set(dropRequest=1)
    calls = [client.request("GET", ME) for _ in range(20)]
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert {failure.code for failure in failures if isinstance(failure, FreshkeyError)} == {"network"}
    assert len(failures) == 20
    assert len(proxy.requests(REFRESH)) == 5


@pytest.mark.parametrize("fault", ["dropRequest", "dropAnswer", "tooMany", "unavailable"])
async def test_a_refresh_ahead_of_expiry_may_fail(connect: Connect, proxy: Proxy, fault: str) -> None:
    client, storage = await signed_in(connect, proxy.url)
    age(storage, 200)
    proxy.set(only="/refresh$", **{fault: 1})
    for _ in range(2):
        assert (await client.me())["id"]
    assert len(proxy.requests(REFRESH)) == 1, "one try, and then none for a while"
    age(storage, -1)
    proxy.set()
    assert (await client.me())["id"]
    assert generation(held(storage)["refresh_token"]) == 2


async def test_a_long_retry_after_is_left_to_the_caller(connect: Connect) -> None:
    with support.local(REFRESH_BURST="1", REFRESH_PER_LIFETIME="1") as url, support.proxy(url) as proxy:
        client, _ = await signed_in(connect, proxy.url)
        failed = None
        while failed is None:
            try:
                await client.refresh_access_token()
            except FreshkeyError as failure:
                failed = failure
        assert (failed.status, failed.code) == (429, "rate_limited")
        assert (failed.retry_after or 0) > 30
        assert [entry["status"] for entry in proxy.requests(REFRESH)].count(429) == 1
        assert client.is_signed_in


async def test_an_answer_that_cannot_be_read_counts_as_lost(connect: Connect, local: str) -> None:
    client, storage = await signed_in(connect, local)
    key = held(storage)["key"]
    portal = connect(local, storage=storage, answer=lambda _: httpx.Response(200, text="Welcome"))
    with pytest.raises(FreshkeyError) as failed:
        await portal.refresh_access_token()
    assert (failed.value.status, failed.value.code) == (200, "unreadable")
    assert held(storage)["key"] == key
    await client.refresh_access_token()


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
async def test_a_body_that_a_proxy_has_lost_is_sent_again(
    connect: Connect, dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = {
        "v1": httpx.Response(400, json={"error": "invalid_request", "detail": "No refresh token was sent."}),
        "lexik": httpx.Response(401, json={"code": 401, "message": "An authentication exception occurred."}),
    }[dialect]
    tokens = {"access_token": "new", "token": "new", "refresh_token": "new", "expires_in": 3600}
    answers = [lost] * 7 + [httpx.Response(200, json=tokens)]
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        return answers[len(keys) - 1]

    monkeypatch.setattr(_core, "BACKOFF", 0)
    reasons: list[str] = []
    client = connect("http://api.example", dialect=dialect, answer=answer, on_signed_out=reasons.append)
    await client.set_tokens("old", "old", 3600)
    with pytest.raises(FreshkeyError) as failed:
        await client.refresh_access_token()
    assert not isinstance(failed.value, SignedOutError)
    assert failed.value.code == "invalid_request"
    assert client.is_signed_in
    assert reasons == []
    assert await client.refresh_access_token() == "new"
    assert len(keys) == 8
    assert len(set(keys)) == 1


def token(**claims: int) -> str:
    """Returns a JWT with these claims."""
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.c2ln"


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
@pytest.mark.parametrize("is_last", [True, False])
async def test_an_access_token_that_ends_with_its_session_is_not_due(
    connect: Connect, dialect: Dialect, is_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    end = now + 1000 + (not is_last)
    access_token, refresh_token = token(iat=now, exp=now + 1000), token(iat=now, exp=end)
    body: dict[str, object] = {"refresh_token": refresh_token, "user_id": "ada", "user": {"id": "ada"}}
    if dialect == "v1":
        body |= {"access_token": access_token, "expires_in": 1000, "refresh_expires_in": end - now}
    else:
        body |= {"token": access_token}
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path.rsplit("/", 1)[1])
        return httpx.Response(200, json={**body, "id": "ada"})

    storage = MemoryStorage()
    client = connect("http://api.example", dialect=dialect, answer=answer, storage=storage)
    taken = connect("http://api.example", dialect=dialect, answer=answer)
    await client.login("ada@example.com", PASSWORD)
    await taken.set_tokens(access_token, refresh_token)
    monkeypatch.setattr("freshkey._core.time.time", lambda: now + 990)
    for each in (client, taken):
        sent.clear()
        await each.me()
        assert sent == (["me"] if is_last else ["refresh", "me"])
    monkeypatch.setattr("freshkey._core.time.time", lambda: now + 2100)
    for each in (client, taken):
        sent.clear()
        await each.me()
        assert sent == ["refresh", "me"], "an expired access token is refreshed"


# What ends a session.


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
async def test_a_theft_ends_the_session(connect: Connect, proxy: Proxy, dialect: Dialect) -> None:
    reasons: list[str] = []
    client, storage = await signed_in(connect, proxy.url, dialect=dialect, on_signed_out=reasons.append)
    stolen = held(storage)["refresh_token"]
    await client.refresh_access_token()
    assert post(proxy.url, "/api/v1/auth/refresh", refresh_token=stolen).status_code == 401
    proxy.clear()
    with pytest.raises(SignedOutError) as failed:
        await client.refresh_access_token()
    assert failed.value.code == "invalid_refresh_token"
    assert len(proxy.requests()) == 1, "a final refusal is not repeated"
    assert not client.is_signed_in
    assert reasons == ["session_ended"]
    assert "refresh_token" not in held(storage)


async def test_a_second_refusal_is_the_answer(connect: Connect, local: str) -> None:
    with support.local() as other, support.proxy(other) as elsewhere, support.proxy(local) as proxy:
        client, _ = await signed_in(connect, proxy.url, origins=[elsewhere.url])
        answer = await client.request("GET", elsewhere.url + ME)
        assert answer.status_code == 401, "that system has another secret"
        assert len(elsewhere.requests()) == 2
        assert len(proxy.requests(REFRESH)) == 1
        assert client.is_signed_in


# Late answers.


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
async def test_a_late_answer_does_not_replace_a_newer_session(
    connect: Connect, proxy: Proxy, dialect: Dialect
) -> None:
    client, storage = await signed_in(connect, proxy.url, dialect=dialect)
    proxy.next("hold")
    late = asyncio.create_task(client.refresh_access_token())
    await when_held(proxy)
    await client.login(a_user(proxy.url), PASSWORD)
    newer = held(storage)
    proxy.release()
    assert await late == newer["access_token"]
    assert held(storage) == newer


async def test_a_late_answer_does_not_undo_a_logout(connect: Connect, proxy: Proxy) -> None:
    told: list[object] = []
    client, storage = await signed_in(connect, proxy.url, on_tokens=told.append)
    proxy.next("hold")
    late = asyncio.create_task(client.refresh_access_token())
    await when_held(proxy)
    await client.logout()
    proxy.release()
    with pytest.raises(SignedOutError):
        await late
    assert not client.is_signed_in
    assert "refresh_token" not in held(storage)
    assert len(told) == 1, "only of the login"


async def test_a_late_refusal_does_not_end_a_newer_session(connect: Connect, proxy: Proxy) -> None:
    reasons: list[str] = []
    client, storage = await signed_in(connect, proxy.url, on_signed_out=reasons.append)
    post(proxy.url, "/api/v1/auth/logout", refresh_token=held(storage)["refresh_token"])
    proxy.clear()
    proxy.next("hold")
    late = asyncio.create_task(client.refresh_access_token())
    await when_held(proxy)
    await client.login(a_user(proxy.url), PASSWORD)
    proxy.release()
    assert await late == held(storage)["access_token"]
    assert client.is_signed_in
    assert reasons == []


async def test_a_spent_token_is_not_presented_again_when_another_client_was_first(
    connect: Connect, proxy: Proxy
) -> None:
    other, storage = await signed_in(connect, proxy.url)
    rotated: list[str] = []

    def answer(_: httpx.Request) -> httpx.Response:
        """Rotates twice with another client of the same storage before the refusal."""
        with AuthClient(proxy.url, storage=storage) as another:
            rotated.extend(another.refresh_access_token() for _ in range(2))
        return httpx.Response(429, headers={"retry-after": "0"})

    assert await connect(proxy.url, answer=answer, storage=storage).refresh_access_token() == rotated[-1]
    assert len(rotated) == 2, "one try"
    await other.refresh_access_token()


async def test_another_task_refreshes_when_the_first_is_cancelled(proxy: Proxy) -> None:
    storage = MemoryStorage()
    async with AsyncAuthClient(proxy.url, storage=storage) as client:
        await client.login(a_user(proxy.url), PASSWORD)
        proxy.next("hold")
        first = asyncio.create_task(client.refresh_access_token())
        await when_held(proxy)
        others = [asyncio.create_task(client.refresh_access_token()) for _ in range(5)]
        await asyncio.sleep(0)  # they wait for the first
        first.cancel()
        tokens = await asyncio.gather(*others)
        assert set(tokens) == {held(storage)["access_token"]}
        assert generation(held(storage)["refresh_token"]) == 2
        proxy.release()


# Within a reuse interval.


async def test_a_refresh_token_that_is_issued_again_keeps_its_key(connect: Connect) -> None:
    with support.local(REFRESH_REUSE_INTERVAL_SECONDS="60") as url:
        client, storage = await signed_in(connect, url)
        await client.refresh_access_token()
        before = held(storage)
        await client.refresh_access_token()
        after = held(storage)
        assert (after["refresh_token"], after["key"]) == (before["refresh_token"], before["key"])
        assert after["access_token"] != before["access_token"]


# Calls.


async def test_a_call_is_one_line(connect: Connect) -> None:
    received: list[tuple[str, str, bytes]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        received.append((request.method, str(request.url), request.content))
        assert request.headers["authorization"] == "Bearer one"
        return httpx.Response(418)

    client = connect("http://api.example/v2", answer=answer)
    with pytest.raises(SignedOutError):
        await client.get("/things")
    await client.set_tokens("one", "two", 3600)
    calls = {
        "GET": client.get("/things", params={"n": 1}),
        "POST": client.post("/things", json={}),
        "PUT": client.put("/things", content=b"put"),
        "PATCH": client.patch("/things", content=b"patch"),
        "DELETE": client.delete("http://api.example/things"),
        "OPTIONS": client.request("OPTIONS", "/things"),
        "TRACE": client.authenticated_request("TRACE", "/things"),
    }
    for call in calls.values():
        assert (await call).status_code == 418
    things = "http://api.example/v2/things"
    assert received == [
        ("GET", f"{things}?n=1", b""),
        ("POST", things, b"{}"),
        ("PUT", things, b"put"),
        ("PATCH", things, b"patch"),
        ("DELETE", "http://api.example/things", b""),
        ("OPTIONS", things, b""),
        ("TRACE", things, b""),
    ]


async def test_a_get_is_repeated_and_a_patch_is_not(connect: Connect, proxy: Proxy) -> None:
    client, _ = await signed_in(connect, proxy.url)
    for fault in ("dropAnswer", "tooMany", "unavailable"):
        proxy.clear()
        proxy.next(fault, fault, only="GET")
        assert (await client.request("GET", ME)).status_code == 200
        assert len(proxy.requests("GET")) == 3
    proxy.set(only="PATCH", dropAnswer=1)
    proxy.clear()
    with pytest.raises(FreshkeyError) as failed:
        await client.request("PATCH", ME, json={"first_name": "Ada"})
    assert failed.value.code == "network"
    assert len(proxy.requests("PATCH")) == 1


async def test_a_body_is_sent_again_after_a_401(connect: Connect, local: str, proxy: Proxy) -> None:
    client, _ = await signed_in(connect, proxy.url)
    advance(local, 3601)
    answer = await client.patch(ME, json={"first_name": "Ada"})
    assert answer.json()["first_name"] == "Ada"
    assert [entry["status"] for entry in proxy.requests("PATCH")] == [401, 200]


async def test_the_access_token_goes_to_no_other_origin(connect: Connect, local: str, proxy: Proxy) -> None:
    client, _ = await signed_in(connect, local)
    port = local.rsplit(":", 1)[1]
    elsewhere = [
        proxy.url + ME,
        f"https://127.0.0.1:{port}/",
        f"http://localhost:{port}/",
        "ftp://127.0.0.1/",
    ]
    for url in [*elsewhere, f"@127.0.0.1:{port}/", "users/me", "127.0.0.1"]:
        with pytest.raises(ValueError, match=r"not sent to|no http"):
            await client.request("GET", url)
    assert (await client.request("GET", local.upper() + ME)).status_code == 200
    assert proxy.requests() == []
