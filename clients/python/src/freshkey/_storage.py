"""Where the tokens are kept."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Record = dict[str, Any]
"""What is stored: for each API, under its URL, the members of its session. JSON can hold it. It is secret."""


class Storage(Protocol):
    """Keeps one record.

    The storage is the only copy of the tokens: it is read before every call, and a change is written at once.

    A storage that several clients or processes share also has a method `lock()`. It returns a context
    manager that excludes the others during one `load` and one `save`, the last thing done under it.
    Such a storage must allow calls from different threads, because `AsyncAuthClient` waits for the lock in
    a thread of its own.
    """

    def load(self) -> Record | None:
        """Returns the record that was saved last, or None if there is none."""

    def save(self, record: Record) -> None:
        """Replaces the record: the next `load` returns the old record or the new one, never a mixture."""


class MemoryStorage:
    """Keeps the tokens in this process. Clients that share the object share the session.

    A forked process gets a copy. When both copies refresh, the server sees reuse and ends the session, so
    use a `FileStorage` there.
    """

    def __init__(self) -> None:
        """Creates an empty storage."""
        self._record: Record | None = None
        self._lock = threading.Lock()

    def load(self) -> Record | None:
        """Returns the record that was saved last, or None if there is none."""
        return self._record

    def save(self, record: Record) -> None:
        """Replaces the record."""
        self._record = record

    def lock(self) -> AbstractContextManager[Any]:
        """Excludes other threads."""
        return self._lock


_REFUSED = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS}
"""What the system answers where a file may be written but not replaced: it is a mount point of its own
(EBUSY, EXDEV), or its folder is not writable. A full disk is not among them: nothing may be written then."""

# How long to wait, in seconds, before a file is read again that could not be read.
_PAUSES = tuple(0.001 * 2**n for n in range(7))
# The first byte of a file that is being written in place.
_NO_JSON = b"!"


class FileStorage:
    """Keeps the tokens in a JSON file that only its owner may read (mode 0600).

    Any number of processes may share the file, by any of its names: the file itself is locked, and where
    the path is a symbolic link, its target. A missing or empty file means that nobody is signed in.

    The lock is held only while a process reads the file and replaces it, not during the request before
    that. All processes send the same Idempotency-Key with the same refresh token, so refreshes at the same
    time are one attempt, and the first answer is adopted.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Keeps the tokens in the file at `path`, which is created when it is needed."""
        self.path = Path(path).expanduser().absolute()  # the program may change its working directory later

    def __repr__(self) -> str:
        """Returns the path, and nothing of the contents."""
        return f"FileStorage({str(self.path)!r})"

    def load(self) -> Record | None:
        """Returns the record in the file, or None if the file is missing or empty.

        Raises ValueError if the file holds something else than a JSON object.
        """
        for pause in _PAUSES:
            with suppress(ValueError):
                return self._read()
            time.sleep(pause)  # another process may be writing in place at this moment
        return self._read()

    def save(self, record: Record) -> None:
        """Replaces the contents of the file. Call it under `lock`.

        The file is replaced by a new one, so a crash leaves the old contents or the new ones. Where that is
        refused, or the file has several hard links, it is overwritten in place.
        """
        file, data = self._file(), json.dumps(record).encode()
        if not (file.exists() and file.stat().st_nlink > 1):
            try:
                return _replace(file, data)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
        _overwrite(file, data)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Excludes other threads and processes. The lock of a process that dies is released.

        Raises OSError if the file can be neither created nor opened for writing, and if it is mounted by
        itself and was replaced outside of that mount.
        """
        file = self._file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            with _locked(file) as descriptor:
                try:
                    found = file.stat()
                except FileNotFoundError:
                    continue  # it was deleted while this waited for the lock
                if not os.path.samestat(os.fstat(descriptor), found):
                    continue  # it was replaced while this waited for the lock
                if found.st_nlink == 0:
                    raise OSError(errno.ESTALE, "replaced outside of its mount: mount its folder", str(file))
                yield
                return

    def _file(self) -> Path:
        """Returns the file itself, wherever the path is a symbolic link at the moment."""
        return Path(os.path.realpath(self.path))

    def _read(self) -> Record | None:
        try:
            text = self.path.read_bytes()
            if self.path.read_bytes() != text:  # see _overwrite
                raise ValueError(f"{self.path} changes all the time.")
        except FileNotFoundError:
            return None
        if not text.strip():
            return None
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):  # ValueError: not JSON, or not UTF-8
            record = None  # raised below, because this error would quote the file
        if not isinstance(record, dict):
            raise ValueError(f"{self.path} does not hold a JSON object.")
        return record


@contextmanager
def _locked(file: Path) -> Iterator[int]:
    """Locks a file, which is created if it is missing. Yields its descriptor."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # past the end: a locked byte cannot be read
            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process forked meanwhile also has it open
        os.close(descriptor)


def _replace(file: Path, data: bytes) -> None:
    """Puts a new file with these contents in the place of `file`, or leaves everything as it was."""
    new = file.with_name(file.name + ".new")
    with suppress(FileNotFoundError):
        new.unlink()  # left by a process that was killed
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(new, file)
    except BaseException:
        new.unlink()
        raise


def _overwrite(file: Path, data: bytes) -> None:
    """Writes these contents over those of `file`, padded with blanks, which JSON allows.

    The file is never cut short: a process that reads it at that moment would see an empty one, which means
    signed out. It grows first, so a full disk is noticed while the old contents are still there.

    While the contents are a mixture of the old and the new, the first byte is one that JSON does not begin
    with. So a mixture that a process has read is not there any more, or no JSON, when it reads again.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        with suppress(PermissionError):  # it belongs to somebody else, who has let us write it
            file.chmod(0o600)
        size = os.fstat(descriptor).st_size
        opened.seek(size)
        opened.write(b" " * (len(data) - size))
        opened.flush()
        for place, part in ((0, _NO_JSON), (1, data[1:].ljust(size - 1)), (0, data[:1])):
            opened.seek(place)
            opened.write(part)
            opened.flush()
        os.fsync(descriptor)
