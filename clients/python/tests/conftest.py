"""The fixtures. A test that uses `connect` runs twice: with threads and with tasks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, cast

import httpx
import pytest
import support

from freshkey import AsyncAuthClient, AuthClient

Connect = Callable[..., AsyncAuthClient]
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(scope="session")
def local() -> Iterator[str]:
    """A local system without a limit on rotations."""
    with support.local(REFRESH_BURST="100000") as url:
        yield url


@pytest.fixture(scope="session")
def hasty() -> Iterator[str]:
    """A local system whose access tokens live for six seconds."""
    with support.local(REFRESH_BURST="100000", JWT_ACCESS_TOKEN_EXPIRE_MINUTES="0.1") as url:
        yield url


@pytest.fixture(scope="session")
def shared_proxy(local: str) -> Iterator[support.Proxy]:
    """The proxy that all tests share."""
    with support.proxy(local) as started:
        yield started


@pytest.fixture
def proxy(shared_proxy: support.Proxy) -> support.Proxy:
    """A proxy in front of the local system, without faults and requests of the last test."""
    shared_proxy.release()
    shared_proxy.set()
    shared_proxy.clear()
    return shared_proxy


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the tests that await."""
    return "asyncio"


class InThreads:
    """An `AuthClient` with the methods of an `AsyncAuthClient`: each call runs in a thread of its own."""

    def __init__(self, client: AuthClient) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(100)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        if not callable(member):
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
    """Makes clients, and closes them after the test. With `answer`, a function answers their requests."""
    async with AsyncExitStack() as opened:

        def make(url: str, answer: Answer | None = None, **options: Any) -> AsyncAuthClient:
            if answer:
                transport = httpx.MockTransport(answer)
                kind = httpx.Client if request.param == "threads" else httpx.AsyncClient
                options["http"] = kind(transport=transport)
            if request.param == "threads":
                client = cast(AsyncAuthClient, InThreads(AuthClient(url, **options)))
            else:
                client = AsyncAuthClient(url, **options)
            opened.push_async_exit(client)
            return client

        yield make
