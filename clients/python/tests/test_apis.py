"""What is stored belongs to one API, and no other API gets it."""

import json
from pathlib import Path

import httpx
import pytest
import support
from conftest import Connect
from support import PASSWORD, REFRESH, Proxy, a_user, generation, post
from test_storage import OwnStorage

from freshkey import AuthClient, FileStorage, MemoryStorage, SignedOutError, Storage

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["memory", "file", "own"])
async def test_two_apis_share_a_storage_and_no_token(
    connect: Connect, proxy: Proxy, tmp_path: Path, kind: str
) -> None:
    kinds = {"memory": MemoryStorage(), "file": FileStorage(tmp_path / "session.json"), "own": OwnStorage()}
    storage: Storage = kinds[kind]  # type: ignore[assignment]
    with support.local() as url, support.proxy(url) as other:
        email = a_user(other.url)
        here, there = connect(proxy.url, storage=storage), connect(other.url, storage=storage)
        await here.login(a_user(proxy.url), PASSWORD)
        assert not there.is_signed_in
        for call in (there.me, there.refresh_access_token):
            with pytest.raises(SignedOutError):
                await call()
        assert not await there.logout()
        assert [entry for entry in other.requests() if not entry["path"].endswith("register")] == []

        await there.login(email, PASSWORD)
        [login] = other.requests("POST /api/v1/auth/login")
        assert "x-device-token" not in login["headers"], "the device token is the other API's"
        for client in (here, there, here):
            await client.refresh_access_token()
        records = {api: record for api, record in (storage.load() or {}).items()}
        assert {api: generation(record["refresh_token"]) for api, record in records.items()} == {
            proxy.url: 3,
            other.url: 2,
        }
        post(other.url, "/api/v1/auth/logout", refresh_token=records[other.url]["refresh_token"])
        with pytest.raises(SignedOutError):
            await there.refresh_access_token()
        assert here.is_signed_in
        await here.refresh_access_token()
        await there.login(email, PASSWORD)
        assert "x-device-token" in other.requests("POST /api/v1/auth/login")[-1]["headers"]
        await here.logout()
        assert there.is_signed_in


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://api.example/one", "https://api.example/two"),
        ("https://api.example", "https://api.example/one"),
        ("https://api.example/One", "https://api.example/one"),
        ("https://api.example", "http://api.example"),
        ("https://api.example", "https://api.example:8443"),
        ("https://api.example", "https://app.example"),
        ("https://api.example", "https://api.example.evil.example"),
    ],
)
async def test_an_api_is_told_by_its_origin_and_path(connect: Connect, one: str, other: str) -> None:
    storage = MemoryStorage()
    await connect(one, storage=storage).set_tokens("a", "b", 3600)
    assert connect(one, storage=storage).is_signed_in
    assert not connect(other, storage=storage).is_signed_in


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://api.example", "HTTPS://Api.Example:443/"),
        ("https://api.example/one", "https://api.example/one/"),
        ("https://api.example/one", "https://ada:secret@api.example/one"),
        ("https://münchen.example", "https://xn--mnchen-3ya.example"),
    ],
)
async def test_an_api_may_be_written_differently(connect: Connect, one: str, other: str) -> None:
    storage = MemoryStorage()
    await connect(other, storage=storage).set_tokens("a", "b", 3600)
    assert connect(one, storage=storage).is_signed_in
    assert "secret" not in json.dumps(storage.load())


async def test_tokens_without_an_api_are_not_read(connect: Connect, proxy: Proxy, tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    text = json.dumps({"access_token": "one", "refresh_token": "two", "device_token": "three"})
    file.write_text(text)
    client = connect(proxy.url, storage=FileStorage(file))
    assert not client.is_signed_in
    with pytest.raises(SignedOutError):
        await client.refresh_access_token()
    assert file.read_text() == text
    await client.login(a_user(proxy.url), PASSWORD)
    [login] = proxy.requests("POST /api/v1/auth/login")
    assert "x-device-token" not in login["headers"]
    assert json.loads(text).items() <= json.loads(file.read_text()).items(), "they stay as they were"


async def test_tokens_without_an_api_are_taken_over_once(
    connect: Connect, proxy: Proxy, tmp_path: Path
) -> None:
    file = tmp_path / "session.json"
    with AuthClient(proxy.url, storage=FileStorage(file)) as before:
        before.login(a_user(proxy.url), PASSWORD)
    [tokens] = json.loads(file.read_text()).values()
    del tokens["key"]
    file.write_text(json.dumps({**tokens, "expires_at": "tomorrow", "theme": "dark"}))

    client = connect(proxy.url, storage=FileStorage(file), adopt_legacy_tokens=True)
    assert (await client.me())["id"]
    await client.refresh_access_token()
    [sent] = proxy.requests(REFRESH)
    assert sent["headers"]["idempotency-key"]
    stored = json.loads(file.read_text())
    assert stored.keys() & {"access_token", "refresh_token", "key", "device_token"} == set()
    assert stored["theme"] == "dark"
    assert generation(stored[proxy.url]["refresh_token"]) == 2
    assert stored[proxy.url]["device_token"] == tokens["device_token"]

    assert not connect(
        "http://other.example", storage=FileStorage(file), adopt_legacy_tokens=True
    ).is_signed_in
    await client.logout()
    file.write_text(json.dumps({**json.loads(file.read_text()), **tokens}))
    again = connect(proxy.url, storage=FileStorage(file), adopt_legacy_tokens=True)
    assert not again.is_signed_in, "what older code stores later is not read"


async def test_the_symfony_login_gives_a_device_token(connect: Connect) -> None:
    received: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        received.append(request)
        tokens = {"token": "one", "refresh_token": "two", "expires_in": 3600, "user": {"id": "ada"}}
        is_known = "x-device-token" in request.headers
        return httpx.Response(200, json=tokens if is_known else {**tokens, "device_token": "device"})

    client = connect("http://api.example", dialect="lexik", answer=answer, storage=MemoryStorage())
    for _ in range(3):
        assert await client.login("ada@example.com", PASSWORD) == "ada"
        await client.logout()
    logins = [request for request in received if request.url.path == "/api/auth"]
    assert [request.headers.get("x-device-token") for request in logins] == [None, "device", "device"]
