"""Each kind of client, in each dialect, at each setting of the reuse interval."""

import base64
import json
import os
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import requests
from strangers import DIALECTS, Locked, Naive, SignedOut

SETTINGS = json.loads(os.environ["SETTINGS"])
PASSWORD = "correct horse battery"
CASES = list(product(SETTINGS, DIALECTS, [Locked, Naive]))


def claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def burst(client, chance):
    """20 calls within 50 ms, at some moment of the second after the expiry."""
    time.sleep(max(0, claims(client.access_token)["exp"] + 0.9 * chance.random() - time.time()))

    def call(delay):
        time.sleep(delay)
        return client.me()["email"]

    with ThreadPoolExecutor(20) as threads:
        return list(threads.map(call, [0.05 * chance.random() for _ in range(20)]))


def journey(client, server, seed):
    """Logs in and lives through the expiries of the setting."""
    chance = random.Random(seed)
    email = f"{uuid.uuid4()}@example.com"
    requests.post(server["url"] + "/api/v1/auth/register", json={"email": email, "password": PASSWORD}).raise_for_status()
    time.sleep(3 * chance.random())
    client.login(email, PASSWORD)
    assert client.me()["email"] == email
    for _ in range(server["expiries"]):
        assert burst(client, chance) == [email] * 20


@pytest.fixture(scope="module")
def journeys():
    """All at once, each with a client of its own."""
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
