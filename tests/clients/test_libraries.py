"""The Python libraries of docs/libraries.md, with the code of that page, and what
signs them out when parts of the code are left out."""

import asyncio
import json
import os
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
import requests
from journey import PASSWORD, SETTINGS, burst, expiry, registered

ROOT = Path(__file__).parents[2]
REFRESH = "^POST /api/v1/auth/refresh$"
COMMON, *EXAMPLES = [
    block.split("```")[0] for block in (ROOT / "docs" / "libraries.md").read_text().split("```python\n")[1:]
]
LIBRARIES = dict(zip(["requests-oauthlib", "Authlib over requests", "Authlib over httpx"], EXAMPLES, strict=True))

os.environ["REFRESH_KEY_SECRET"] = "our own secret, of 32 bytes here!"
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"


@contextmanager
def proxy(target, **faults):
    """Starts a proxy in front of the server. Yields its URL and a function that sets faults."""
    program = ["node", ROOT / "tests" / "support" / "proxy.js", "--target", target]
    faults = json.dumps({"only": REFRESH, **faults})
    process = subprocess.Popen([*program, "--faults", faults], stdout=subprocess.PIPE)
    try:
        url = json.loads(process.stdout.readline())["url"]
        yield url, lambda **told: requests.put(url + "/.proxy", json=told).raise_for_status()
    finally:
        process.terminate()
        process.wait()


class Client:
    """The code of the page, or the code without some parts."""

    def __init__(self, library, url, without=()):
        self.url = url
        self.names = {}
        exec(COMMON.replace("http://127.0.0.1:3000", url), self.names)
        exec(LIBRARIES[library], self.names)
        if "lock" in without:
            self.names["Session"] = self.names["OAuth2Session"]
        self.without = without
        self.loop = None
        if "AsyncOAuth2Client" in self.names:
            self.loop = asyncio.new_event_loop()
            threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def login(self, email, password):
        self.go_on(self.names["sign_in"](email, password))

    def go_on(self, token):
        """Continues with a stored token."""
        self.stored = token

        def save(token, refresh_token=None):
            self.stored = dict(token)

        async def save_async(token, refresh_token=None):
            save(token)

        self.session = self.names["session"](token, save_async if self.loop else save)
        if "key" in self.without:
            self.session.compliance_hook["refresh_token_request"].clear()
        if "checked" in self.without:
            self.session.compliance_hook["refresh_token_response"].clear()

    @property
    def access_token(self):
        return self.stored["access_token"]

    @property
    def expires_at(self):
        return self.stored["expires_at"]

    def me(self):
        answer = self.session.get(self.url + "/api/v1/users/me")
        if self.loop:
            answer = asyncio.run_coroutine_threadsafe(answer, self.loop).result()
        answer.raise_for_status()
        return answer.json()

    def me_in_the_end(self):
        """Returns the user. Repeats the call until it succeeds."""
        for _ in range(30):
            try:
                return self.me()
            except Exception as error:
                if status(error) not in (None, 503):
                    raise
        raise AssertionError("no answer in 30 tries")


def status(error):
    """Returns the status of an error's answer, or None without an answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def refused(call):
    """Whether a call fails with 401."""
    with pytest.raises(Exception) as caught:
        call()
    return status(caught.value) == 401


def signed_in(library, server, url, without=()):
    client = Client(library, url, without)
    client.email = registered(server["url"])
    client.login(client.email, PASSWORD)
    return client


def loses_answers(library, server):
    """20 threads make calls after each expiry, and the first answer of each refresh is lost."""
    chance = random.Random(f"{library} {server['interval']}")
    with proxy(server["url"], dropAnswer=0.3) as (url, tell):
        time.sleep(3 * chance.random())
        client = signed_in(library, server, url)
        for _ in range(server["expiries"]):
            tell(next=["dropAnswer"])
            assert burst(client, chance, client.me_in_the_end) == [client.email] * 20


def loses_one_answer(library, server, without):
    with proxy(server["url"]) as (url, tell):
        client = signed_in(library, server, url, without)
        expiry(client, 0.1)
        tell(next=["dropAnswer"])
        with pytest.raises(Exception) as lost:
            client.me()
        assert status(lost.value) is None
        if server["interval"] == 0 and "key" in without:
            assert refused(client.me)
        else:
            assert client.me()["email"] == client.email


def two_at_once(library, server, without, apart):
    """Two threads or processes refresh at the same time."""
    with proxy(server["url"]) as (url, tell), ThreadPoolExecutor(2) as threads:
        first = signed_in(library, server, url, without)
        second = first
        if apart:
            second = Client(library, url, without)
            second.go_on(first.stored)
        expiry(first, 0.1)
        tell(next=["hold"])
        slow = threads.submit(first.me)
        has_acted(url)
        waits = not apart and "lock" not in without and library != "Authlib over requests"
        other = threads.submit(second.me)
        if not waits:
            other.exception()
        tell(release=True)
        if server["interval"] == 0 and "key" in without and not waits:
            assert refused(other.result)
            refused_for_good(slow, first)
        else:
            assert slow.result()["email"] == other.result()["email"] == first.email


def has_acted(url):
    """Waits until the server has carried out the refresh whose answer is held."""
    end = time.time() + 10
    while not any(entry["status"] for entry in requests.get(url + "/.proxy").json()["requests"] if entry["fault"]):
        assert time.time() < end
        time.sleep(0.01)


def refused_for_good(slow, client):
    """The tokens of the first refresh are refused too, after the next expiry."""
    slow.result()
    expiry(client, 0.1)
    assert refused(client.me)


def meets_the_gateway(library, server, without):
    """API Gateway answers a refresh with its own 429."""
    with proxy(server["url"]) as (url, tell):
        client = signed_in(library, server, url, without)
        expiry(client, 0.1)
        tell(next=["tooMany"])
        with pytest.raises(Exception) as busy:
            client.me()
        if "checked" in without:
            assert "access_token" not in client.stored
            with pytest.raises(Exception):
                client.me()
        else:
            assert status(busy.value) == 429
            assert client.me()["email"] == client.email


WITHOUT = {"with all of it": (), "without the key": ("key",)}
AUTHLIB = [library for library in LIBRARIES if library.startswith("Authlib")]
PLACES = [(f"{library} at {setting}", library, SETTINGS[setting]) for library, setting in product(LIBRARIES, SETTINGS)]
# The longest first.
CASES = {f"{who}, losing answers": (loses_answers, library, server) for who, library, server in PLACES}
for who, library, server in PLACES:
    for what, without in WITHOUT.items():
        CASES[f"{who}, {what}, losing one answer"] = (loses_one_answer, library, server, without)
        CASES[f"{who}, {what}, in two threads"] = (two_at_once, library, server, without, False)
        CASES[f"{who}, {what}, in two processes"] = (two_at_once, library, server, without, True)
for setting, server in SETTINGS.items():
    case = (two_at_once, "requests-oauthlib", server, ("key", "lock"), False)
    CASES[f"requests-oauthlib at {setting}, without the key or the lock, in two threads"] = case
for library in LIBRARIES:
    CASES[f"{library} meets the gateway's 429"] = (meets_the_gateway, library, SETTINGS["interval 0"], ())
for library in AUTHLIB:
    case = (meets_the_gateway, library, SETTINGS["interval 0"], ("checked",))
    CASES[f"{library} meets the gateway's 429, without checked"] = case


@pytest.fixture(scope="module")
def outcomes():
    """Runs the cases at the same time, each with its own client."""
    with ThreadPoolExecutor(16) as threads:
        yield {name: threads.submit(*case) for name, case in CASES.items()}


@pytest.mark.parametrize("case", CASES)
def test_who_stays_signed_in(outcomes, case):
    outcomes[case].result()
