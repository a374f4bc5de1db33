"""The test of every client: a login, and bursts of calls, each just after the
access token has expired."""

import base64
import json
import os
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import requests

# The servers that tools/test-clients has started, by name.
SETTINGS = json.loads(os.environ["SETTINGS"])
PASSWORD = "correct horse battery"


def registered(url, tries=5):
    """Registers a user at a server and returns the e-mail address."""
    email = f"{uuid.uuid4()}@example.com"
    answer = requests.post(url + "/api/v1/auth/register", json={"email": email, "password": PASSWORD})
    if answer.status_code == 503 and tries > 1:  # all the clients register at the same time
        return registered(url, tries - 1)
    answer.raise_for_status()
    return email


def claims(token):
    """Returns the claims of a token."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def expiry(client, late=0):
    """Waits until the access token has expired, also for the client, and `late` more seconds."""
    expires_at = max(claims(client.access_token)["exp"], getattr(client, "expires_at", 0))
    time.sleep(max(0, expires_at + late - time.time()))


def burst(client, chance, call):
    """Makes 20 calls within 50 ms, at a random moment of the second after the expiry."""
    expiry(client, 0.9 * chance.random())

    def later(delay):
        time.sleep(delay)
        return call()["email"]

    with ThreadPoolExecutor(20) as threads:
        return list(threads.map(later, [0.05 * chance.random() for _ in range(20)]))


def journey(client, server, seed):
    """Logs in, and makes a burst of calls after each expiry of the setting."""
    chance = random.Random(seed)
    email = registered(server["url"])
    time.sleep(3 * chance.random())
    client.login(email, PASSWORD)
    assert client.me()["email"] == email
    for _ in range(server["expiries"]):
        assert burst(client, chance, client.me) == [email] * 20
