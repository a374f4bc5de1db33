"""Where the tokens are kept."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Record = dict[str, Any]
"""What is kept: members that JSON can hold. Treat it as a secret."""


class Storage(Protocol):
    """Keeps one record. It is the one truth: it is read whenever a call leaves, and written at once.

    An object that several clients or processes share also has a method `lock()`, which gives a
    context manager that keeps the others out for the time of a `load` and a `save`.
    """

    def load(self) -> Record | None:
        """The record that was saved last; None, if there is none."""

    def save(self, record: Record) -> None:
        """Keeps the record, whole or not at all."""


class MemoryStorage:
    """Keeps the tokens in this process; clients that share the object share the session.

    A process that is forked gets a copy. Two copies that both refresh are reuse, which ends the
    session: use a `FileStorage`.
    """

    def __init__(self) -> None:
        """An empty one."""
        self._record: Record | None = None
        self._lock = threading.Lock()

    def load(self) -> Record | None:
        """The record that was saved last."""
        return self._record

    def save(self, record: Record) -> None:
        """Keeps the record."""
        self._record = record

    def lock(self) -> AbstractContextManager[Any]:
        """Keeps other threads out."""
        return self._lock


class FileStorage:
    """Keeps the tokens in a JSON file that only its owner may read (mode 0600).

    Any number of processes may share the file. Only the moment in which one reads it and writes it
    anew is locked, not the request before it: all of them send the same key with the same refresh
    token, so however many refresh at once, it is one attempt, and the first answer is adopted.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Storage in this file, which is made when there is something to keep."""
        self.path = Path(path).expanduser().absolute()  # for a program that changes its folder later

    def __repr__(self) -> str:
        """Where the file is, and nothing of what it holds."""
        return f"FileStorage({str(self.path)!r})"

    def load(self) -> Record | None:
        """What the file holds. Raises ValueError if that is not a JSON object."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            record = json.loads(text)
        except ValueError:  # what is no JSON, and what is no UTF-8
            record = None  # the error would quote the file
        if not isinstance(record, dict):
            raise ValueError(f"{self.path} does not hold a JSON object.")
        return record

    def save(self, record: Record) -> None:
        """Replaces the file, so that a crash leaves the old one or the new one. Call it under `lock`."""
        new = self._beside(".new")
        with suppress(FileNotFoundError):
            new.unlink()  # of a process that was killed
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other threads and processes out; one that dies lets go of it."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._beside(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            if sys.platform != "win32":
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process forked meanwhile has it open, too
            os.close(descriptor)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)
