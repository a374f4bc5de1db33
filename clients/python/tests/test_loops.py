"""`AsyncAuthClient` in several event loops, and beside a file that another process has locked."""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
import support
from support import PASSWORD, REFRESH, Proxy, a_user, alter, generation, held

from freshkey import AsyncAuthClient, FileStorage, MemoryStorage

ANSWER = {"access_token": "new", "refresh_token": "new", "expires_in": 3600, "user_id": "ada"}


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_client_works_in_one_event_loop_after_another(local: str, is_closed: bool) -> None:
    storage = MemoryStorage()
    client = AsyncAuthClient(local, storage=storage)
    email = a_user(local)

    async def program() -> None:
        if not client.is_signed_in:
            await client.login(email, PASSWORD)
        for _ in range(2):
            alter(storage, expires_at=0)
            users = await asyncio.gather(*(client.me() for _ in range(20)))
            assert {user["email"] for user in users} == {email}
        if is_closed:
            await client.close()

    for _ in range(3):
        asyncio.run(program())
        gc.collect()  # a connection that was left open is a ResourceWarning, which fails the test
    assert generation(held(storage)["refresh_token"]) == 7


def test_a_client_may_be_opened_in_each_loop(local: str) -> None:
    client = AsyncAuthClient(local)
    email = a_user(local)

    async def program() -> str:
        async with client:
            await client.login(email, PASSWORD)
            return (await client.me())["email"]

    assert [asyncio.run(program()) for _ in range(2)] == [email] * 2


def test_a_refresh_that_another_loop_began_is_not_waited_for(proxy: Proxy) -> None:
    # The first loop ends while its refresh is on its way.
    storage = MemoryStorage()
    client = AsyncAuthClient(proxy.url, storage=storage)

    async def cut_off() -> None:
        await client.login(a_user(proxy.url), PASSWORD)
        proxy.next("hold")
        tasks = [asyncio.create_task(client.refresh_access_token()) for _ in range(2)]
        await asyncio.to_thread(support.until, lambda: proxy.requests(REFRESH))
        assert not any(task.done() for task in tasks)

    asyncio.run(cut_off())
    proxy.release()
    proxy.set()
    asyncio.run(client.refresh_access_token())
    assert generation(held(storage)["refresh_token"]) == 2


Operation = Callable[[AsyncAuthClient], Coroutine[Any, Any, object]]
OPERATIONS: dict[str, Operation] = {
    "login": lambda client: client.login("ada@example.com", PASSWORD),
    "register": lambda client: client.register("ada@example.com", PASSWORD),
    "set_tokens": lambda client: client.set_tokens("a", "b", 3600),
    "refresh_access_token": lambda client: client.refresh_access_token(),
    "access_token": lambda client: client.access_token(refused="old"),
    "logout": lambda client: client.logout(),
    "logout_everywhere": lambda client: client.logout_everywhere(),
}


@pytest.mark.anyio
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
async def test_no_operation_blocks_the_event_loop_while_the_file_is_locked(
    operation: Operation, tmp_path: Path
) -> None:
    file = tmp_path / "session.json"
    locked, let_go = threading.Event(), threading.Event()

    def other_process() -> None:
        with FileStorage(file).lock():
            locked.set()
            let_go.wait(10)

    def answer(request: httpx.Request) -> httpx.Response:
        is_end = request.method == "DELETE" or request.url.path.endswith("/logout")
        return httpx.Response(204) if is_end else httpx.Response(200, json=ANSWER)

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http,
        AsyncAuthClient("http://api.example", http=http, storage=FileStorage(file)) as client,
    ):
        await client.set_tokens("old", "old", 3600)
        thread = threading.Thread(target=other_process)
        thread.start()
        await asyncio.to_thread(locked.wait)
        task = asyncio.create_task(operation(client))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        assert thread.is_alive(), "the event loop went on while the file was locked"
        let_go.set()
        await task
        thread.join()
