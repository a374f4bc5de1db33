"""Many rotations over a network that loses two in five, by processes that are killed.

200 of them, or as many as the environment variable FRESHKEY_ROTATIONS says: `make soak` makes 1,000.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import support
from support import PASSWORD, a_user, generation

from freshkey import AuthClient, Dialect, FileStorage

PROGRAM = Path(__file__).with_name("refreshing.py")
SEED = 20261121
ROTATIONS = int(os.environ.get("FRESHKEY_ROTATIONS", "200"))
ROTATIONS_OF_A_PROCESS = 50


class Refreshing:
    """A process that refreshes from this file whenever it is told to: refreshing.py."""

    def __init__(self, url: str, file: Path, dialect: Dialect, kind: str) -> None:
        command = [sys.executable, str(PROGRAM), url, str(file), dialect, kind]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self._process.stdin
        assert self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout

    def __enter__(self) -> "Refreshing":
        return self

    def __exit__(self, *_: object) -> None:
        """Kills it, as it stands."""
        self._process.kill()
        self._process.communicate()

    def tell(self, refused: str = "", times: int = 1) -> None:
        """Asks for a refresh, or several, one after the other."""
        self._input.write(f"{refused}\n" * times)
        self._input.flush()

    def generation(self) -> int:
        """The generation after the next refresh. Fails with what the process said if it has ended."""
        line = self._output.readline()
        assert line, self._process.communicate()[1]
        return int(line)


@pytest.mark.parametrize(("dialect", "kind"), [("v1", "threads"), ("lexik", "tasks")])
def test_many_rotations_end_signed_in(local: str, tmp_path: Path, dialect: Dialect, kind: str) -> None:
    file, chance = tmp_path / "session.json", random.Random(SEED)
    with AuthClient(local, dialect=dialect, storage=FileStorage(file)) as client:
        client.login(a_user(local), PASSWORD)
    with support.proxy(local, SEED) as proxy:
        proxy.set(dropRequest=0.2, dropAnswer=0.2, only="/refresh$")
        kills = 0
        held = 1
        while held <= ROTATIONS:
            with Refreshing(proxy.url, file, dialect, kind) as process:
                process.tell(times=ROTATIONS)
                aim = held + ROTATIONS_OF_A_PROCESS
                while held < aim:
                    held = process.generation()
                time.sleep(chance.uniform(0, 0.03))  # at any moment of the next refresh
            kills += 1
            held = generation(json.loads(file.read_text())["refresh_token"])
        assert kills == ROTATIONS / ROTATIONS_OF_A_PROCESS
        tries = [entry for entry in proxy.requests() if entry["path"].endswith("/refresh")]
        lost = [entry["fault"] for entry in tries].count("dropAnswer")
        assert lost > 0.1 * ROTATIONS
        assert len(tries) > 1.4 * ROTATIONS
        assert len({entry["headers"]["idempotency-key"] for entry in tries}) - held in (0, -1), (
            "a key for each"
        )
    with AuthClient(local, dialect=dialect, storage=FileStorage(file)) as client:
        client.refresh_access_token()
        assert client.me()["id"]
