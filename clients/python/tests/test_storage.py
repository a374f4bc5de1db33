"""What is stored, for which API, and how several processes share one file."""

import json
import os
import select
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import support
from conftest import Connect
from support import PASSWORD, REFRESH, Proxy, a_user, generation, held
from test_endurance import Refreshing

from freshkey import AuthClient, FileStorage, FreshkeyError, Record, SignedOutError


def signed_in(url: str, file: Path) -> Record:
    """Opens a session and stores it in the file. Returns what is stored for the API."""
    with AuthClient(url, storage=FileStorage(file)) as client:
        client.login(a_user(url), PASSWORD)
    return held(FileStorage(file))


@pytest.mark.anyio
async def test_a_session_survives_the_process(connect: Connect, local: str, tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    before = signed_in(local, file)
    client = connect(local, storage=FileStorage(str(file)))
    assert client.is_signed_in
    assert await client.access_token() == before["access_token"]
    await client.refresh_access_token()
    assert generation(held(FileStorage(file))["refresh_token"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_only_its_owner_may_read_the_file(local: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    previous = os.umask(0)
    try:
        signed_in(local, folder / "session.json")
    finally:
        os.umask(previous)
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert files == {"session.json": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_leftovers_of_a_killed_process_do_no_harm(local: str, tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    (tmp_path / "session.json.new").write_text('{"half": ')
    (tmp_path / "session.json.new").chmod(0o644)
    signed_in(local, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not (tmp_path / "session.json.new").exists()


def test_an_error_about_a_file_does_not_quote_it(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    for text in (b'{"refresh_token": "secret', b'{"refresh_token": "secret\xff"}', b'"secret"'):
        file.write_bytes(text)
        with AuthClient("http://127.0.0.1:1", storage=FileStorage(file)) as client:
            with pytest.raises(ValueError, match="does not hold a JSON object") as failed:
                client.access_token()
            assert "secret" not in "".join(traceback.format_exception(failed.value)) + repr(failed.value)
        assert file.read_bytes() == text


@pytest.mark.anyio
async def test_two_tokens_of_other_code_are_enough(connect: Connect, proxy: Proxy, tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    tokens = signed_in(proxy.url, file)
    file.write_text(json.dumps({name: tokens[name] for name in ("access_token", "refresh_token")}))
    client = connect(proxy.url, storage=FileStorage(file), adopt_legacy_tokens=True)
    assert await client.access_token() == tokens["access_token"], "its expiry is read from the token"
    proxy.next("dropAnswer")
    await client.refresh_access_token()
    [first, second] = proxy.requests(REFRESH)
    assert first["headers"]["idempotency-key"] == second["headers"]["idempotency-key"] != ""
    assert generation(held(FileStorage(file))["refresh_token"]) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("expires_in", [3600, 0, None])
async def test_tokens_are_taken_over(
    connect: Connect, proxy: Proxy, tmp_path: Path, expires_in: float | None
) -> None:
    tokens = signed_in(proxy.url, tmp_path / "session.json")
    client = connect(proxy.url)
    await client.set_tokens(tokens["access_token"], tokens["refresh_token"], expires_in)
    assert (await client.me())["id"]
    assert len(proxy.requests(REFRESH)) == (1 if expires_in == 0 else 0)
    await client.refresh_access_token()


@pytest.mark.anyio
async def test_tokens_that_are_taken_over_again_keep_their_key(connect: Connect, proxy: Proxy) -> None:
    storage = OwnStorage()
    client = connect(proxy.url, storage=storage)
    await client.login(a_user(proxy.url), PASSWORD)
    tokens = held(storage)
    proxy.set(only="/refresh$", dropAnswer=1)
    with pytest.raises(FreshkeyError):
        await client.refresh_access_token()
    await client.set_tokens(tokens["access_token"], tokens["refresh_token"])
    assert held(storage)["key"] == tokens["key"]
    proxy.set()
    await client.refresh_access_token()
    assert generation(held(storage)["refresh_token"]) == 2


class OwnStorage:
    """A user's own storage, as simple as possible. It keeps every record."""

    def __init__(self) -> None:
        self.saved: list[Record] = []

    def load(self) -> Record | None:
        return self.saved[-1] if self.saved else None

    def save(self, record: Record) -> None:
        self.saved.append(json.loads(json.dumps(record)))


@pytest.mark.anyio
async def test_a_key_is_stored_before_its_token_is_sent(connect: Connect, proxy: Proxy) -> None:
    storage = OwnStorage()
    client = connect(proxy.url, storage=storage)
    await client.login(a_user(proxy.url), PASSWORD)
    for _ in range(3):
        kept = held(storage)["key"]
        proxy.clear()
        await client.refresh_access_token()
        [sent] = proxy.requests(REFRESH)
        assert sent["headers"]["idempotency-key"] == kept
    assert len({record["key"] for saved in storage.saved for record in saved.values()}) == 4


@pytest.mark.anyio
async def test_a_client_uses_the_tokens_that_another_client_of_the_file_got(
    connect: Connect, proxy: Proxy, tmp_path: Path
) -> None:
    file = tmp_path / "session.json"
    signed_in(proxy.url, file)
    one, two = (connect(proxy.url, storage=FileStorage(file)) for _ in range(2))
    token = await one.refresh_access_token()
    assert await two.access_token() == token
    await two.logout()
    with pytest.raises(SignedOutError):
        await one.access_token()
    assert len(proxy.requests(REFRESH)) == 1


@pytest.mark.anyio
async def test_a_token_that_was_exchanged_while_its_client_waited_is_not_exchanged_again(
    connect: Connect, proxy: Proxy, tmp_path: Path
) -> None:
    class Late(FileStorage):
        """A file whose lock comes only after another process has refreshed."""

        @contextmanager
        def lock(self) -> Iterator[None]:
            with AuthClient(proxy.url, storage=FileStorage(self.path)) as another:
                another.refresh_access_token()
            with super().lock():
                yield

    file = tmp_path / "session.json"
    refused = signed_in(proxy.url, file)["access_token"]
    token = await connect(proxy.url, storage=Late(file)).access_token(refused)
    assert token == held(FileStorage(file))["access_token"]
    assert len(proxy.requests(REFRESH)) == 1


def test_the_lock_excludes_threads_and_processes(tmp_path: Path) -> None:
    file = tmp_path / "count.json"
    storage = FileStorage(file)
    storage.path.write_text('{"count": 0}')
    program = (
        "import sys; from freshkey import FileStorage\n"
        "storage = FileStorage(sys.argv[1])\n"
        "for _ in range(50):\n"
        "    with storage.lock(): storage.save({'count': storage.load()['count'] + 1})\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(file)]) for _ in range(2)]

    def count() -> None:
        for _ in range(50):
            with storage.lock():
                storage.save({"count": (storage.load() or {})["count"] + 1})

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    assert storage.load() == {"count": 200}


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    program = (
        "import sys; from freshkey import FileStorage\n"
        "with FileStorage(sys.argv[1]).lock(): print('locked', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"locked\n"
        entered = threading.Event()

        def enter() -> None:
            with FileStorage(file).lock():
                entered.set()

        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.3)
        process.kill()
        assert entered.wait(20)
        thread.join()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_does_not_hold_the_lock(tmp_path: Path) -> None:
    program = (
        "import os, sys; from freshkey import FileStorage\n"
        "with FileStorage(sys.argv[1]).lock():\n"
        "    if os.fork() == 0: sys.stdin.read(); os._exit(0)\n"
        "with FileStorage(sys.argv[1]).lock(): print('locked again', flush=True)\n"
        "os.wait()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "session.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        said, _, _ = select.select([process.stdout], [], [], 20)
        process.stdin.close()  # ends the child
        assert said, "the lock is free while the child runs"


def test_a_program_may_change_its_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    client = AuthClient("http://127.0.0.1:1", storage=FileStorage("session.json"))
    client.set_tokens("one", "two")
    monkeypatch.chdir("elsewhere")
    assert client.is_signed_in
    client.close()


def test_processes_that_refresh_one_file_at_once_are_one_attempt(local: str, tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    with support.proxy(local, seed=7) as proxy, ExitStack() as started:
        signed_in(proxy.url, file)
        proxy.clear()
        kinds = ("threads", "tasks", "threads")
        processes = [started.enter_context(Refreshing(proxy.url, file, "v1", kind)) for kind in kinds]
        for rotation in range(2, 42):
            # In every other round, all three have sent their request before any of them has its answer. They
            # start in the first round.
            at_once = rotation % 2 == 1
            proxy.clear()
            if at_once:
                proxy.next("hold", "hold", "hold")
            else:
                proxy.set(delay={"p": 0.5, "ms": 50}, dropAnswer=0.1)
            refused = held(FileStorage(file))["access_token"]
            for process in processes:
                process.tell(refused)
            if at_once:
                support.until(lambda: len(proxy.requests(REFRESH)) >= 3)
                proxy.release()
            assert [process.generation() for process in processes] == [rotation] * 3
            keys = {entry["headers"]["idempotency-key"] for entry in proxy.requests(REFRESH)}
            assert len(keys) == 1, "one key for each refresh token"
        proxy.set()
        with AuthClient(proxy.url, storage=FileStorage(file)) as client:
            client.refresh_access_token()
            assert client.me()["id"]
