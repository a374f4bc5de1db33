"""The access token in clients of one's own: httpx, httpx with asyncio, and requests."""

import asyncio
import io
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import requests
import support
from support import PASSWORD, REFRESH, Proxy, a_user

import freshkey.requests
from freshkey import AsyncAuthClient, AsyncBearerAuth, AuthClient, BearerAuth, MemoryStorage

ME = "/api/v1/users/me"


@pytest.fixture
def storage(proxy: Proxy) -> MemoryStorage:
    """A new session."""
    storage = MemoryStorage()
    with AuthClient(proxy.url, storage=storage) as client:
        client.login(a_user(proxy.url), PASSWORD)
    proxy.clear()
    return storage


@pytest.fixture
def client(proxy: Proxy, storage: MemoryStorage) -> Iterator[AuthClient]:
    """A client with that session."""
    with AuthClient(proxy.url, storage=storage) as client:
        yield client


def expire(storage: MemoryStorage) -> None:
    """The client's clock says that the access token has expired."""
    storage.save({**(storage.load() or {}), "expires_at": time.time() - 1})


def spoil(storage: MemoryStorage) -> None:
    """The access token is one that the server refuses, and the client does not know."""
    storage.save({**(storage.load() or {}), "access_token": "e30.e30.spoilt"})


def test_httpx_is_kept_signed_in(proxy: Proxy, storage: MemoryStorage, client: AuthClient) -> None:
    with httpx.Client(base_url=proxy.url, auth=BearerAuth(client)) as http:
        assert http.get(ME).status_code == 200
        assert proxy.requests(REFRESH) == []
        for age in (expire, spoil):
            proxy.clear()
            age(storage)
            with ThreadPoolExecutor(20) as pool:
                assert {answer.status_code for answer in pool.map(http.get, [ME] * 20)} == {200}
            assert len(proxy.requests(REFRESH)) == 1


@pytest.mark.anyio
async def test_a_refused_call_leaves_its_connection_to_the_refresh(
    proxy: Proxy, storage: MemoryStorage
) -> None:
    one = httpx.Limits(max_connections=1)
    spoil(storage)
    with httpx.Client(limits=one) as http, AuthClient(proxy.url, storage=storage, http=http) as client:
        assert client.me()["id"]
    spoil(storage)
    async with (
        httpx.AsyncClient(limits=one) as slow,
        AsyncAuthClient(proxy.url, storage=storage, http=slow) as tasks,
    ):
        assert (await tasks.me())["id"]


@pytest.mark.anyio
async def test_httpx_with_asyncio_is_kept_signed_in(proxy: Proxy, storage: MemoryStorage) -> None:
    async with (
        AsyncAuthClient(proxy.url, storage=storage) as client,
        httpx.AsyncClient(base_url=proxy.url, auth=AsyncBearerAuth(client)) as http,
    ):
        assert (await http.get(ME)).status_code == 200
        assert proxy.requests(REFRESH) == []
        for age in (expire, spoil):
            proxy.clear()
            age(storage)
            answers = await asyncio.gather(*(http.get(ME) for _ in range(100)))
            assert {answer.status_code for answer in answers} == {200}
            assert len(proxy.requests(REFRESH)) == 1


def test_requests_is_kept_signed_in(proxy: Proxy, storage: MemoryStorage, client: AuthClient) -> None:
    with requests.Session() as session:
        session.auth = freshkey.requests.BearerAuth(client)

        def call(_: int) -> int:
            return session.get(proxy.url + ME).status_code

        assert call(0) == 200
        assert proxy.requests(REFRESH) == []
        for age in (expire, spoil):
            proxy.clear()
            age(storage)
            with ThreadPoolExecutor(20) as pool:
                assert set(pool.map(call, range(20))) == {200}
            assert len(proxy.requests(REFRESH)) == 1


def pipe(data: bytes) -> io.BufferedReader:
    """A file that can be read once."""
    end, other = os.pipe()
    os.write(other, data)
    os.close(other)
    return open(end, "rb")


def test_a_body_is_sent_again_if_it_can_be(proxy: Proxy, storage: MemoryStorage, client: AuthClient) -> None:
    json, headers = b'{"first_name": "Ada"}', {"content-type": "application/json"}

    def patch(data: object) -> int:
        spoil(storage)
        auth = freshkey.requests.BearerAuth(client)
        answer = requests.patch(proxy.url + ME, data=data, headers=headers, auth=auth)  # type: ignore[arg-type]
        assert answer.status_code == 401 or answer.json()["first_name"] == "Ada"
        return answer.status_code

    assert patch(json) == 200
    file = io.BytesIO(b"before" + json)
    file.seek(len(b"before"))
    assert patch(file) == 200
    assert patch(iter([json])) == 401, "that can be read once only"
    with pipe(json) as data:
        assert patch(data) == 401, "and that"
    assert patch(json) == 200
    spoil(storage)
    with httpx.Client(auth=BearerAuth(client)) as http:
        answer = http.patch(proxy.url + ME, content=iter([json]), headers=headers)
        assert answer.json()["first_name"] == "Ada"


@pytest.mark.anyio
async def test_the_access_token_goes_to_no_other_origin(proxy: Proxy, storage: MemoryStorage) -> None:
    with support.foreign() as (elsewhere, seen), AuthClient(proxy.url, storage=storage) as client:
        with pytest.raises(ValueError, match="not sent to"):
            httpx.get(elsewhere, auth=BearerAuth(client))
        with pytest.raises(ValueError, match="not sent to"):
            requests.get(elsewhere, auth=freshkey.requests.BearerAuth(client))
        async with AsyncAuthClient(proxy.url, storage=storage) as tasks, httpx.AsyncClient() as http:
            with pytest.raises(ValueError, match="not sent to"):
                await http.get(elsewhere, auth=AsyncBearerAuth(tasks))
        assert seen == []
    with support.foreign() as (ours, seen), AuthClient(proxy.url, storage=storage, origins=[ours]) as client:
        httpx.get(ours, auth=BearerAuth(client))
        requests.get(ours, auth=freshkey.requests.BearerAuth(client))
        assert {headers["authorization"] for headers in seen} == {f"Bearer {client.access_token()}"}


def test_a_redirect_takes_the_access_token_to_no_other_origin(proxy: Proxy, storage: MemoryStorage) -> None:
    # One of ours redirects to the API of another system, which answers 401.
    with support.local() as other, support.proxy(other) as elsewhere:
        with (
            support.foreign(location=elsewhere.url + ME) as (ours, seen),
            AuthClient(proxy.url, storage=storage, origins=[ours]) as client,
        ):
            answer = requests.get(ours, auth=freshkey.requests.BearerAuth(client))
            assert answer.status_code == 401
            assert client.authenticated_request("GET", ours).status_code == 307
            with httpx.Client(auth=BearerAuth(client), follow_redirects=True) as http:
                assert http.get(ours).status_code == 401
            assert all("authorization" in headers for headers in seen)
        assert len(elsewhere.requests()) >= 2
        assert not any("authorization" in entry["headers"] for entry in elsewhere.requests())


def test_a_refresh_token_follows_no_redirect(proxy: Proxy, storage: MemoryStorage) -> None:
    with (
        support.foreign(location=proxy.url + "/api/v1/auth/refresh") as (ours, _),
        httpx.Client(follow_redirects=True) as http,
        AuthClient(ours, storage=storage, http=http) as client,
    ):
        with pytest.raises(freshkey.FreshkeyError) as failed:
            client.refresh_access_token()
        assert failed.value.status == 307
        assert proxy.requests() == []


def test_the_two_kinds_are_not_mixed_up(proxy: Proxy, client: AuthClient) -> None:
    async def mixed_up() -> None:
        async with httpx.AsyncClient() as http:
            await http.get(proxy.url + ME, auth=BearerAuth(client))

    with pytest.raises(TypeError, match="AsyncBearerAuth"):
        asyncio.run(mixed_up())
