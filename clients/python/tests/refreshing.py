"""A program that refreshes from a file: `refreshing.py URL FILE DIALECT KIND`.

Each line of its input is an access token that is refused; an empty line means the one that is held. After
each refresh it prints the generation that the file then holds. It tries again after a failure of the
network, and fails when it is signed out. KIND is `threads` or `tasks`.
"""

import asyncio
import sys

from support import generation, held

from freshkey import AsyncAuthClient, AuthClient, Dialect, FileStorage, FreshkeyError, SignedOutError, _core

_core.BACKOFF /= 10  # a thousand rotations should take one minute, not three


def say(file: str) -> None:
    """Prints the generation that the file holds."""
    print(generation(held(FileStorage(file))["refresh_token"]), flush=True)


def with_threads(url: str, file: str, dialect: Dialect) -> None:
    """Refreshes with an `AuthClient`."""
    with AuthClient(url, dialect=dialect, storage=FileStorage(file)) as client:
        for line in sys.stdin:
            while True:
                try:
                    client.access_token(line.strip()) if line.strip() else client.refresh_access_token()
                    break
                except FreshkeyError as failure:
                    if isinstance(failure, SignedOutError):
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
                    if isinstance(failure, SignedOutError):
                        raise
            say(file)


if __name__ == "__main__":
    url, file, name, kind = sys.argv[1:]
    dialect: Dialect = "lexik" if name == "lexik" else "v1"
    if kind == "threads":
        with_threads(url, file, dialect)
    else:
        asyncio.run(with_tasks(url, file, dialect))
