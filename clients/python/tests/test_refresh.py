"""Refreshing: how often, when it is repeated, what ends a session and what does not."""

import asyncio
import time
from typing import Any

import httpx
import pytest
import support
from conftest import Connect
from support import PASSWORD, REFRESH, Proxy, a_user, generation, post

from freshkey import AsyncAuthClient, Dialect, FreshkeyError, MemoryStorage, Record, SignedOut

pytestmark = pytest.mark.anyio

ME = "/api/v1/users/me"


def held(storage: MemoryStorage) -> dict[str, Any]:
    """What is kept."""
    return storage.load() or {}


def age(storage: MemoryStorage, seconds: float) -> None:
    """Lets the access token expire in that many seconds, as far as the client knows."""
    storage.save({**held(storage), "expires_at": time.time() + seconds})


async def signed_in(connect: Connect, url: str, **options: Any) -> tuple[AsyncAuthClient, MemoryStorage]:
    """A client that has just logged in, and its storage."""
    storage = MemoryStorage()
    client = connect(url, storage=storage, **options)
    await client.login(a_user(url), PASSWORD)
    return client, storage


async def statuses(client: AsyncAuthClient, calls: int) -> set[int]:
    """How that many calls at once are answered."""
    answers = await asyncio.gather(*(client.authenticated_request("GET", ME) for _ in range(calls)))
    return {answer.status_code for answer in answers}


async def when_held(proxy: Proxy) -> None:
    """Waits until the server has acted on a refresh."""
    await asyncio.to_thread(
        support.until, lambda: any(entry["status"] for entry in proxy.requests("POST") if entry["fault"])
    )


async def expired(expires_at: float) -> None:
    """Waits until this time has passed."""
    while time.time() < expires_at:
        await asyncio.sleep(0.05)


# How often.


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
async def test_a_hundred_calls_over_an_expiry_cost_one_refresh(
    connect: Connect, hasty: str, dialect: Dialect
) -> None:
    with support.proxy(hasty) as proxy:
        client, storage = await signed_in(connect, proxy.url, dialect=dialect)
        await expired(held(storage)["expires_at"])
        proxy.clear()
        assert await statuses(client, 100) == {200}
        assert len(proxy.requests(f"GET {ME}")) == 100
        assert len([entry for entry in proxy.requests() if entry["path"].endswith("/refresh")]) == 1
        assert generation(held(storage)["refresh_token"]) == 2


async def test_a_hundred_calls_that_are_refused_cost_one_refresh(connect: Connect, hasty: str) -> None:
    with support.proxy(hasty) as proxy:
        client, storage = await signed_in(connect, proxy.url)
        expires_at = held(storage)["expires_at"]
        age(storage, 3600)  # the clock of the client is behind
        await expired(expires_at + 0.2)
        proxy.clear()
        assert await statuses(client, 100) == {200}
        assert any(entry["status"] == 401 for entry in proxy.requests(f"GET {ME}"))
        assert len(proxy.requests(REFRESH)) == 1


class Counted(MemoryStorage):
    """Knows how often it was read."""

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
    # Each looks twice before it waits for the first, which has looked more often.
    await asyncio.to_thread(support.until, lambda: len(storage.loads) >= 200)
    proxy.release()
    assert set(await asyncio.gather(*calls)) == {held(storage)["access_token"]}
    assert len(proxy.requests(REFRESH)) == 1
    assert generation(held(storage)["refresh_token"]) == 2


async def test_a_good_access_token_is_not_refreshed(connect: Connect, proxy: Proxy) -> None:
    client, storage = await signed_in(connect, proxy.url)
    age(storage, 301)
    await client.me()
    assert proxy.requests(REFRESH) == []
    age(storage, 299)
    await client.me()
    assert len(proxy.requests(REFRESH)) == 1


async def test_the_buffer_is_at_most_half_the_lifetime(connect: Connect, hasty: str) -> None:
    with support.proxy(hasty) as proxy:
        client, storage = await signed_in(connect, proxy.url)
        lifetime = held(storage)["lifetime"]
        assert 5 <= lifetime <= 6
        age(storage, lifetime / 2 + 2)
        await client.me()
        assert proxy.requests(REFRESH) == []
        age(storage, lifetime / 2 - 0.1)
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
    await client.me()
    assert generation(held(storage)["refresh_token"]) == 1


# What is lost, and what is refused for a while.


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
    assert held(storage)["key"] not in ("", key), "each refresh token has a key of its own"
    if fault in ("unavailable", "limited"):
        assert time.monotonic() - began >= 1, "Retry-After is waited for"


async def test_an_outage_is_reported_and_signs_nobody_out(connect: Connect, proxy: Proxy) -> None:
    reasons: list[str] = []
    client, storage = await signed_in(connect, proxy.url, on_signed_out=reasons.append)
    proxy.set(dropRequest=1)
    with pytest.raises(FreshkeyError) as failed:
        await client.refresh_access_token()
    assert not isinstance(failed.value, SignedOut)
    assert (failed.value.status, failed.value.code) == (0, "network")
    assert isinstance(failed.value.__cause__, httpx.TransportError)
    assert len(proxy.requests(REFRESH)) == 5
    proxy.set()
    await client.refresh_access_token()
    assert generation(held(storage)["refresh_token"]) == 2
    assert reasons == []


async def test_those_who_wait_for_a_refresh_share_its_failure(connect: Connect, proxy: Proxy) -> None:
    client, storage = await signed_in(connect, proxy.url)
    age(storage, -1)
    proxy.set(dropRequest=1)
    calls = [client.authenticated_request("GET", ME) for _ in range(20)]
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
    assert len(proxy.requests(REFRESH)) == 1, "tried once, and then not for a while"
    age(storage, -1)
    proxy.set()
    assert (await client.me())["id"]
    assert generation(held(storage)["refresh_token"]) == 2


async def test_a_long_pause_is_the_callers_to_wait_for(connect: Connect) -> None:
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


async def test_an_answer_that_cannot_be_read_is_a_lost_one(
    connect: Connect, local: str, foreign: str
) -> None:
    _, storage = await signed_in(connect, local)
    key = held(storage)["key"]
    lost = connect(foreign, storage=storage)
    with pytest.raises(FreshkeyError) as failed:
        await lost.refresh_access_token()
    assert (failed.value.status, failed.value.code) == (200, "unreadable")
    assert held(storage)["key"] == key
    await connect(local, storage=storage).refresh_access_token()


async def test_a_refusal_of_another_kind_signs_nobody_out(connect: Connect, local: str) -> None:
    _, storage = await signed_in(connect, local)
    misled = connect(f"{local}/nowhere", storage=storage)
    with pytest.raises(FreshkeyError) as failed:
        await misled.refresh_access_token()
    assert (failed.value.status, failed.value.code, failed.value.detail) == (404, "not_found", "Not Found")
    await connect(local, storage=storage).refresh_access_token()


# What ends a session.


@pytest.mark.parametrize("dialect", ["v1", "lexik"])
async def test_a_theft_ends_the_session(connect: Connect, proxy: Proxy, dialect: Dialect) -> None:
    reasons: list[str] = []
    client, storage = await signed_in(connect, proxy.url, dialect=dialect, on_signed_out=reasons.append)
    stolen = held(storage)["refresh_token"]
    await client.refresh_access_token()
    assert post(proxy.url, "/api/v1/auth/refresh", refresh_token=stolen).status_code == 401
    proxy.clear()
    with pytest.raises(SignedOut) as failed:
        await client.refresh_access_token()
    assert failed.value.code == "invalid_refresh_token"
    assert len(proxy.requests()) == 1, "what is definitive is not asked again"
    assert not client.is_signed_in
    assert reasons == ["session_ended"]
    assert "refresh_token" not in held(storage)


async def test_a_second_refusal_is_the_answer(connect: Connect, local: str) -> None:
    with support.local() as other, support.proxy(other) as elsewhere, support.proxy(local) as proxy:
        client, _ = await signed_in(connect, proxy.url, origins=[elsewhere.url])
        answer = await client.authenticated_request("GET", elsewhere.url + ME)
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
    with pytest.raises(SignedOut):
        await late
    assert not client.is_signed_in
    assert "refresh_token" not in held(storage)
    assert len(told) == 1, "the login alone"


async def test_a_late_verdict_does_not_end_a_newer_session(connect: Connect, proxy: Proxy) -> None:
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
    # This one's answer is lost. While it pauses, another client of the same storage rotates twice.
    client, storage = await signed_in(connect, proxy.url)
    other = connect(proxy.url, storage=storage)
    proxy.next("limited")
    pausing = asyncio.create_task(client.refresh_access_token())
    await when_held(proxy)
    await other.refresh_access_token()
    token = await other.refresh_access_token()
    assert await pausing == token
    assert len(proxy.requests(REFRESH)) == 3
    await client.refresh_access_token()


async def test_a_cancelled_refresh_leaves_the_others_to_it(proxy: Proxy) -> None:
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


async def test_a_token_that_comes_back_keeps_its_key(connect: Connect) -> None:
    with support.local(REFRESH_REUSE_INTERVAL_SECONDS="60") as url:
        client, storage = await signed_in(connect, url)
        await client.refresh_access_token()
        before = held(storage)
        await client.refresh_access_token()
        after = held(storage)
        assert (after["refresh_token"], after["key"]) == (before["refresh_token"], before["key"])
        assert after["access_token"] != before["access_token"]


# Calls.


async def test_what_only_reads_is_repeated_and_what_acts_is_not(connect: Connect, proxy: Proxy) -> None:
    client, _ = await signed_in(connect, proxy.url)
    for fault in ("dropAnswer", "tooMany", "unavailable"):
        proxy.clear()
        proxy.next(fault, fault, only="GET")
        assert (await client.authenticated_request("GET", ME)).status_code == 200
        assert len(proxy.requests("GET")) == 3
    proxy.set(only="PATCH", dropAnswer=1)
    proxy.clear()
    with pytest.raises(FreshkeyError) as failed:
        await client.authenticated_request("PATCH", ME, json={"first_name": "Ada"})
    assert failed.value.code == "network"
    assert len(proxy.requests("PATCH")) == 1


async def test_a_body_is_sent_again_after_a_401(connect: Connect, hasty: str) -> None:
    with support.proxy(hasty) as proxy:
        client, storage = await signed_in(connect, proxy.url)
        expires_at = held(storage)["expires_at"]
        age(storage, 3600)
        await expired(expires_at + 0.2)
        answer = await client.authenticated_request("PATCH", ME, json={"first_name": "Ada"})
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
            await client.authenticated_request("GET", url)
    assert (await client.authenticated_request("GET", local.upper() + ME)).status_code == 200
    assert proxy.requests() == []
