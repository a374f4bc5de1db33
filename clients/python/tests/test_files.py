"""The file of a `FileStorage`: by whatever name, and wherever it may not be replaced."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path

import pytest
from conftest import Connect
from support import PASSWORD, REFRESH, Proxy, a_user, generation, held

from freshkey import FileStorage, SignedOutError

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links and mounts")
may_mount = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount, and --bind is Linux's"
)
REFUSED = [errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS]


def names(folder: Path) -> list[str]:
    """Returns the names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def mounted(source: Path, target: Path) -> Iterator[None]:
    """Mounts one file over another."""
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


def refuse_to_replace(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Lets each rename fail with this error of the system."""

    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refused)


def enter(storage: FileStorage) -> tuple[threading.Thread, threading.Event]:
    """Starts a thread that takes the lock and sets the event."""
    entered = threading.Event()

    def run() -> None:
        with storage.lock():
            entered.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, entered


def is_excluded(one: FileStorage, other: FileStorage) -> bool:
    """Whether the lock of one storage keeps the other out."""
    with one.lock():
        thread, entered = enter(other)
        is_free = entered.wait(0.3)
    thread.join()
    return not is_free


async def share(connect: Connect, proxy: Proxy, *paths: Path) -> None:
    """Lets clients refresh in turn, each with its own name of one file."""
    clients = [connect(proxy.url, storage=FileStorage(path)) for path in paths]
    await clients[0].login(a_user(proxy.url), PASSWORD)
    for rotation in range(2, 8):
        await clients[rotation % len(clients)].refresh_access_token()
        assert {generation(held(FileStorage(path))["refresh_token"]) for path in paths} == {rotation}
    assert [(await client.me())["id"] for client in clients]


@posix
@pytest.mark.anyio
@pytest.mark.parametrize("is_there", [True, False])
async def test_a_symbolic_link_and_its_target_are_one_file(
    connect: Connect, proxy: Proxy, tmp_path: Path, is_there: bool
) -> None:
    file, link = tmp_path / "there" / "session.json", tmp_path / "here" / "link.json"
    link.parent.mkdir()
    if is_there:
        file.parent.mkdir()
        file.touch()
    link.symlink_to(Path("..", "there", "session.json"))
    chain = tmp_path / "chain.json"
    chain.symlink_to(link)
    await share(connect, proxy, chain, link, file)
    assert link.is_symlink()
    assert chain.is_symlink()
    assert not file.is_symlink()
    assert names(file.parent) == ["session.json"]
    assert names(link.parent) == ["link.json"]
    assert is_excluded(FileStorage(chain), FileStorage(file))


@posix
@pytest.mark.anyio
async def test_hard_links_are_one_file(connect: Connect, proxy: Proxy, tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.touch()
    two.hardlink_to(one)
    await share(connect, proxy, one, two)
    assert one.samefile(two)
    assert names(tmp_path) == ["one.json", "two.json"]
    assert is_excluded(FileStorage(one), FileStorage(two))


@may_mount
@pytest.mark.anyio
async def test_a_file_that_is_mounted_by_itself_is_written_in_place(
    connect: Connect, proxy: Proxy, tmp_path: Path
) -> None:
    source, target = tmp_path / "source.json", tmp_path / "in" / "session.json"
    target.parent.mkdir()
    source.touch()
    target.touch()
    link = tmp_path / "link.json"
    link.symlink_to(target)
    with mounted(source, target):
        await share(connect, proxy, target, link)
        assert source.samefile(target)
        assert is_excluded(FileStorage(source), FileStorage(target))
        assert names(target.parent) == ["session.json"]
        assert stat.S_IMODE(source.stat().st_mode) == 0o600


@may_mount
@pytest.mark.anyio
async def test_a_mounted_file_that_was_replaced_outside_is_an_error_and_sends_nothing(
    connect: Connect, proxy: Proxy, tmp_path: Path
) -> None:
    source, target = tmp_path / "source.json", tmp_path / "session.json"
    outside = connect(proxy.url, storage=FileStorage(source))
    await outside.login(a_user(proxy.url), PASSWORD)
    target.touch()
    with mounted(source, target):
        inside = connect(proxy.url, storage=FileStorage(target))
        await outside.refresh_access_token()
        await outside.refresh_access_token()
        proxy.clear()
        with pytest.raises(OSError, match="mount its folder"):
            await inside.refresh_access_token()
        assert proxy.requests(REFRESH) == []
        await outside.refresh_access_token()


@pytest.mark.anyio
@pytest.mark.parametrize("code", REFUSED, ids=errno.errorcode.get)
async def test_a_file_that_may_not_be_replaced_is_written_in_place(
    connect: Connect, proxy: Proxy, tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "session.json"
    file.touch(0o644)
    before = file.stat().st_ino
    refuse_to_replace(monkeypatch, code)
    await share(connect, proxy, file)
    assert file.stat().st_ino == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 or sys.platform == "win32"
    assert names(tmp_path) == ["session.json"]


@pytest.mark.parametrize("code", REFUSED, ids=errno.errorcode.get)
def test_a_file_in_a_read_only_folder_is_written_in_place(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, opened = FileStorage(tmp_path / "session.json"), os.open
    storage.path.touch()

    def read_only(path: Path, flags: int, mode: int = 0o777) -> int:
        if not Path(path).exists():
            raise OSError(code, os.strerror(code))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    with storage.lock():
        storage.save({"one": 1})
    assert storage.load() == {"one": 1}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_fault_of_the_disk_leaves_the_file_as_it_was(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FileStorage(tmp_path / "session.json")
    with storage.lock():
        storage.save({"one": 1})
    refuse_to_replace(monkeypatch, code)
    with storage.lock(), pytest.raises(OSError, match=os.strerror(code)):
        storage.save({"two": 2})
    assert storage.load() == {"one": 1}
    assert names(tmp_path) == ["session.json"]


@posix
def test_a_full_disk_leaves_the_file_as_it_was_in_place_too(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    file.write_text('{"one": 1}')
    program = (
        "import errno, os, resource, sys; from freshkey import FileStorage\n"
        "system_open = os.open\n"
        "def refused(path, *others):\n"
        "    if str(path).endswith('.new'): raise OSError(errno.EROFS, 'read-only')\n"
        "    return system_open(path, *others)\n"
        "os.open = refused\n"
        "storage = FileStorage(sys.argv[1])\n"
        "with storage.lock():\n"
        "    storage.save({'one': 'x' * 100})\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    storage.save({'two': 'y' * 10_000})\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True)
    assert "File too large" in ended.stderr
    assert FileStorage(file).load() == {"one": "x" * 100}
    assert names(tmp_path) == ["session.json"]


def test_a_shorter_record_in_place_leaves_nothing_of_the_longer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FileStorage(tmp_path / "session.json")
    refuse_to_replace(monkeypatch, errno.EBUSY)
    for record in ({"one": "secret" * 1000}, {"two": 2}, {}):
        with storage.lock():
            storage.save(record)
        assert storage.load() == record
    assert b"secret" not in storage.path.read_bytes()


def test_a_reader_never_sees_a_half_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FileStorage(tmp_path / "session.json")
    refuse_to_replace(monkeypatch, errno.EBUSY)
    monkeypatch.setattr("freshkey._storage._PAUSES", (0.001,) * 1000)  # no other file is written all the time
    records = [{"one": character * length} for character, length in (("a", 9000), ("b", 20_000), ("c", 5))]
    with storage.lock():
        storage.save(records[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for record in records:
                with storage.lock():
                    storage.save(record)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(2000):
            assert storage.load() in records
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("mixture", [b'{"one": "new and o', b'{"one": "newer"}', b'!"one": "new"}'])
def test_a_file_that_is_read_while_another_process_writes_it_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixture: bytes
) -> None:
    storage = FileStorage(tmp_path / "session.json")
    contents = chain([mixture], repeat(b'{"one": "new"}'))
    monkeypatch.setattr(Path, "read_bytes", lambda _: next(contents))
    assert storage.load() == {"one": "new"}


@pytest.mark.anyio
@pytest.mark.parametrize("content", ["", "\n", " \r\n"])
async def test_an_empty_file_means_that_nobody_is_signed_in(
    connect: Connect, proxy: Proxy, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "session.json"
    file.write_text(content)
    client = connect(proxy.url, storage=FileStorage(file))
    assert not client.is_signed_in
    with pytest.raises(SignedOutError):
        await client.me()
    await client.login(a_user(proxy.url), PASSWORD)
    assert (await client.me())["id"]
    assert json.loads(file.read_text())
    assert names(tmp_path) == ["session.json"]


@posix
def test_a_file_that_is_replaced_while_one_waits_for_the_lock_is_locked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    storage = FileStorage(tmp_path / "session.json")
    opened, flock = threading.Event(), fcntl.flock
    found: list[object] = []

    def second() -> None:
        def signal(descriptor: int, operation: int) -> None:
            opened.set()
            flock(descriptor, operation)

        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", signal)
            with storage.lock():
                third, entered = enter(storage)
                found.extend((storage.load(), entered.wait(0.3)))
            third.join()

    thread = threading.Thread(target=second)
    with storage.lock():
        thread.start()
        opened.wait()
        storage.save({"first": 1})
    thread.join()
    assert found == [{"first": 1}, False], "no third one has the lock meanwhile"


def test_a_file_that_is_deleted_while_one_waits_for_the_lock_is_created_again(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "session.json")
    found = []

    def second() -> None:
        with storage.lock():
            found.append(storage.path.exists())

    thread = threading.Thread(target=second)
    with storage.lock():
        thread.start()
        storage.path.unlink()
    thread.join()
    assert found == [True]
