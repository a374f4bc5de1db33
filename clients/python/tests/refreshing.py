"""A program that refreshes from a file: `refreshing.py URL FILE DIALECT KIND`.

Each line of its input is an access token that is refused; an empty one stands for the one that is
held. For each it says the generation that the file then holds. What a flaky network does to it, it
tries again; it fails when it is signed out. KIND is `threads` or `tasks`.
"""

import asyncio
import json
import sys
from pathlib import Path

from support import generation

from freshkey import AsyncAuthClient, AuthClient, Dialect, FileStorage, FreshkeyError, SignedOut, _core

_core.BACKOFF /= 10  # a thousand rotations are to take one minute, not three


def say(file: str) -> None:
    """Tells which generation the file holds."""
    print(generation(json.loads(Path(file).read_text())["refresh_token"]), flush=True)


def with_threads(url: str, file: str, dialect: Dialect) -> None:
    """Refreshes with an `AuthClient`."""
    with AuthClient(url, dialect=dialect, storage=FileStorage(file)) as client:
        for line in sys.stdin:
            while True:
                try:
                    client.access_token(line.strip()) if line.strip() else client.refresh_access_token()
                    break
                except FreshkeyError as failure:
                    if isinstance(failure, SignedOut):
                        raise
            say(file)


async def with_tasks(url: str, file: str, dialect: Dialect) -> None:
    """Refreshes with an `AsyncAuthClient`."""
    async with AsyncAuthClient(url, dialect=dialect, storage=FileStorage(file)) as client:
        for line in sys.stdin:
            while True:
                try:
                    await (
                        client.access_token(line.strip()) if line.strip() else client.refresh_access_token()
                    )
                    break
                except FreshkeyError as failure:
                    if isinstance(failure, SignedOut):
                        raise
            say(file)


if __name__ == "__main__":
    url, file, name, kind = sys.argv[1:]
    dialect: Dialect = "lexik" if name == "lexik" else "v1"
    if kind == "threads":
        with_threads(url, file, dialect)
    else:
        asyncio.run(with_tasks(url, file, dialect))
