"""The access token in other HTTP clients: httpx, httpx with asyncio, and requests."""

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
from support import PASSWORD, REFRESH, Proxy, a_user, alter, held

import freshkey.requests
from freshkey import AsyncAuthClient, AsyncBearerAuth, AuthClient, BearerAuth, MemoryStorage

ME = "/api/v1/users/me"


@pytest.fixture
def storage(proxy: Proxy) -> MemoryStorage:
    """A storage with a new session."""
    storage = MemoryStorage()
    with AuthClient(proxy.url, storage=storage) as client:
        client.login(a_user(proxy.url), PASSWORD)
    proxy.clear()
    return storage


@pytest.fixture
def client(proxy: Proxy, storage: MemoryStorage) -> Iterator[AuthClient]:
    """A client with the session in the storage."""
    with AuthClient(proxy.url, storage=storage) as client:
        yield client


def expire(storage: MemoryStorage) -> None:
    """Lets the access token expire, as far as the client knows."""
    alter(storage, expires_at=int(time.time()) - 1)


def spoil(storage: MemoryStorage) -> None:
    """Puts an access token in the storage that the server refuses."""
    alter(storage, access_token="e30.e30.spoilt")


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
        httpx.AsyncClient(base_url=proxy.url, auth=AsyncBearerAuth(client), timeout=60) as http,
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
    """Returns a file that can be read only once."""
    end, other = os.pipe()
    os.write(other, data)
    os.close(other)
    return open(end, "rb")


def test_only_a_body_that_can_be_read_again_is_repeated(
    proxy: Proxy, storage: MemoryStorage, client: AuthClient
) -> None:
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
    assert patch(iter([json])) == 401, "an iterator can be read only once"
    with pipe(json) as data:
        assert patch(data) == 401, "a pipe can be read only once"
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
    # An allowed origin redirects to the API of another system, which answers 401.
    with support.local() as other, support.proxy(other) as elsewhere:
        with (
            support.foreign(location=elsewhere.url + ME) as (ours, seen),
            AuthClient(proxy.url, storage=storage, origins=[ours]) as client,
        ):
            answer = requests.get(ours, auth=freshkey.requests.BearerAuth(client))
            assert answer.status_code == 401
            assert client.request("GET", ours).status_code == 307
            with httpx.Client(auth=BearerAuth(client), follow_redirects=True) as http:
                assert http.get(ours).status_code == 401
            assert all("authorization" in headers for headers in seen)
        assert len(elsewhere.requests()) >= 2
        assert not any("authorization" in entry["headers"] for entry in elsewhere.requests())


def test_a_refresh_token_follows_no_redirect(proxy: Proxy, storage: MemoryStorage) -> None:
    with (
        support.foreign(location=proxy.url + "/api/v1/auth/refresh") as (ours, _),
        httpx.Client(follow_redirects=True) as http,
        AuthClient(ours, http=http) as client,
    ):
        client.set_tokens(held(storage)["access_token"], held(storage)["refresh_token"])
        with pytest.raises(freshkey.FreshkeyError) as failed:
            client.refresh_access_token()
        assert failed.value.status == 307
        assert proxy.requests() == []


def test_a_sync_auth_class_in_an_async_client_is_a_type_error(proxy: Proxy, client: AuthClient) -> None:
    async def mix_up() -> None:
        async with httpx.AsyncClient() as http:
            await http.get(proxy.url + ME, auth=BearerAuth(client))

    with pytest.raises(TypeError, match="AsyncBearerAuth"):
        asyncio.run(mix_up())
