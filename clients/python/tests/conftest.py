"""What the tests begin with. Each that asks for `connect` runs twice: with threads and with tasks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, cast

import pytest
import support

from freshkey import AsyncAuthClient, AuthClient

Connect = Callable[..., AsyncAuthClient]


@pytest.fixture(scope="session")
def local() -> Iterator[str]:
    """A local system whose sessions may rotate as often as they like."""
    with support.local(REFRESH_BURST="100000") as url:
        yield url


@pytest.fixture(scope="session")
def hasty() -> Iterator[str]:
    """One whose access tokens live for six seconds."""
    with support.local(REFRESH_BURST="100000", JWT_ACCESS_TOKEN_EXPIRE_MINUTES="0.1") as url:
        yield url


@pytest.fixture(scope="session")
def shared_proxy(local: str) -> Iterator[support.Proxy]:
    """The proxy of all tests: what one of them asks of it must not be left to the next."""
    with support.proxy(local) as started:
        yield started


@pytest.fixture
def proxy(shared_proxy: support.Proxy) -> support.Proxy:
    """A proxy in front of the local system, as if it were new."""
    shared_proxy.release()
    shared_proxy.set()
    shared_proxy.clear()
    return shared_proxy


@pytest.fixture
def foreign() -> Iterator[str]:
    """A server that is not ours: it answers each request with 200 and a page."""
    with support.foreign() as (url, _):
        yield url


@pytest.fixture
def anyio_backend() -> str:
    """What runs the tests that await."""
    return "asyncio"


class InThreads:
    """An `AuthClient` that is awaited like an `AsyncAuthClient`: each call runs in a thread of its own."""

    def __init__(self, client: AuthClient) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(100)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        if not callable(member) or name == "set_tokens":
            return member

        async def run(*args: Any, **kwargs: Any) -> Any:
            call = partial(member, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)

        return run

    async def __aenter__(self) -> "InThreads":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()
        self._pool.shutdown()


@pytest.fixture(params=["threads", "tasks"])
async def connect(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Connect]:
    """Makes clients, which are closed in the end."""
    async with AsyncExitStack() as opened:

        def make(url: str, **options: Any) -> AsyncAuthClient:
            if request.param == "threads":
                client = cast(AsyncAuthClient, InThreads(AuthClient(url, **options)))
            else:
                client = AsyncAuthClient(url, **options)
            opened.push_async_exit(client)
            return client

        yield make
