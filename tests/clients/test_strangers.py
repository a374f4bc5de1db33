"""Each kind of client, in each dialect, at each setting of the reuse interval."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from journey import SETTINGS, claims, journey
from strangers import DIALECTS, Locked, Naive, SignedOut

CASES = list(product(SETTINGS, DIALECTS, [Locked, Naive]))


@pytest.fixture(scope="module")
def journeys():
    """Runs the cases at the same time, each with its own client."""
    with ThreadPoolExecutor(len(CASES)) as threads:
        started = {}
        for seed, (setting, dialect, kind) in enumerate(CASES):
            server = SETTINGS[setting]
            client = kind(server["url"], DIALECTS[dialect])
            started[setting, dialect, kind] = client, threads.submit(journey, client, server, seed)
        yield started


@pytest.mark.parametrize("setting,dialect,kind", CASES)
def test_who_stays_signed_in(journeys, setting, dialect, kind):
    client, travelled = journeys[setting, dialect, kind]
    server = SETTINGS[setting]
    if server["interval"] == 0 and kind is Naive:
        with pytest.raises(SignedOut):
            travelled.result()
        with pytest.raises(SignedOut):
            client.refresh(client.access_token)
        return
    travelled.result()
    rotations = claims(client.refresh_token)["gen"] - 1
    if server["interval"] > server["lifetime"]:
        assert rotations < server["expiries"]
    else:
        assert rotations >= server["expiries"]
    client.refresh(client.access_token)
