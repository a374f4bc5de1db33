"""The local system, the proxy in front of it, and other helpers of the tests."""

import json
import os
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import httpx

from freshkey import Storage
from freshkey._tokens import claims

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "correct horse battery"
REFRESH = "POST /api/v1/auth/refresh"
PAGES = {"RESET_URL": "https://app.example.com/reset", "CONFIRM_URL": "https://app.example.com/confirm"}
"""The pages that the links in mails lead to."""


def start(command: list[str], variables: dict[str, str] | None = None) -> tuple[subprocess.Popen[str], str]:
    """Starts a server as a process. Returns the process and the line that says where it listens."""
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **(variables or {})}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    greeting = process.stdout.readline()
    if "http://" not in greeting:
        process.kill()
        raise RuntimeError(f"{command[0]} does not start: {greeting}{process.communicate()[0]}")
    return process, greeting


@contextmanager
def local(**variables: str) -> Iterator[str]:
    """Starts a local system. Yields its URL. Cargo builds it unless FRESHKEY_LOCAL names a binary."""
    binary = os.environ.get("FRESHKEY_LOCAL")
    command = [binary] if binary else ["cargo", "run", "--quiet", "--bin", "local", "--"]
    # Patient, so that nothing depends on how long a busy machine takes.
    process, greeting = start([*command, "--port", "0"], {**PAGES, "TEST_PATIENCE": "50", **variables})
    with process, open(os.devnull, "w") as nowhere:
        # It logs each request, and would stop when the pipe is full.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=nowhere)
        found = re.search(r"http://\S+?(?=\.\s)", greeting)
        assert found, greeting
        try:
            yield found.group()
        finally:
            process.terminate()
            drain.wait()


class Proxy:
    """A proxy that loses, delays and refuses requests: tests/support/proxy.js."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url = url
        self._http = http
        self._control = f"{url}/.proxy"

    def set(self, **faults: Any) -> None:
        """Sets what happens to requests by chance."""
        self._tell(faults=faults)

    def next(self, *names: str, only: str = "/refresh$") -> None:
        """Sets what happens to the next requests that match `only`. Nothing happens by chance then."""
        self._tell(faults={"only": only}, next=names)

    def release(self) -> None:
        """Sends the answers that are held."""
        self._tell(release=True)

    def requests(self, which: str = "") -> list[dict[str, Any]]:
        """Returns the requests so far whose `METHOD /path` begins with `which`."""
        log = self._http.get(self._control).json()["requests"]
        return [entry for entry in log if f"{entry['method']} {entry['path']}".startswith(which)]

    def clear(self) -> None:
        """Forgets the requests so far."""
        self._http.delete(self._control).raise_for_status()

    def _tell(self, **what: Any) -> None:
        self._http.put(self._control, json=what).raise_for_status()


@contextmanager
def proxy(target: str, seed: int = 1) -> Iterator[Proxy]:
    """Starts a proxy in front of the server at this URL."""
    process, greeting = start(
        ["node", "tests/support/proxy.js", "--target", target, "--seed", str(seed)],
    )
    with process, httpx.Client() as http:
        try:
            yield Proxy(json.loads(greeting)["url"], http)
        finally:
            process.terminate()


@contextmanager
def foreign(location: str | None = None) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Starts a foreign server, such as a captive portal. Its answer is always a page, or a redirect.

    Yields its URL and the headers of the requests so far.
    """
    seen: list[dict[str, str]] = []

    class Page(BaseHTTPRequestHandler):
        def answer(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(307 if location else 200)
            if location:
                self.send_header("location", location)
            self.send_header("content-length", "7")
            self.end_headers()
            self.wfile.write(b"Welcome")

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def advance(url: str, seconds: int) -> None:
    """Moves the clock of a local system ahead."""
    httpx.post(url + "/.local/clock", json={"advance_seconds": seconds}).raise_for_status()


def post(url: str, path: str, **body: str) -> httpx.Response:
    """Sends a request that no code of this package made."""
    return httpx.post(url + path, json=body)


def a_user(url: str) -> str:
    """Registers a user and returns the e-mail address."""
    email = f"{uuid.uuid4()}@example.com"
    post(url, "/api/v1/auth/register", email=email, password=PASSWORD).raise_for_status()
    return email


def linked(url: str, email: str, page: str, count: int = 1) -> str:
    """Waits until there are so many mails to this address with a link to `page` (`reset` or `confirm`).

    Returns the token in the newest.
    """
    tokens: list[str] = []

    def are_there() -> bool:
        mails = httpx.get(f"{url}/.local/mail", params={"to": email}).raise_for_status().json()
        tokens[:] = re.findall(rf"/{page}#token=([\w-]+)", "\n".join(mail["text"] for mail in mails))
        return len(tokens) == count

    until(are_there)
    return tokens[0]


def generation(refresh_token: str) -> int:
    """Returns the generation of a refresh token: 1 after the login, and one more after each rotation."""
    number: int = claims(refresh_token)["gen"]
    return number


def held(storage: Storage) -> dict[str, Any]:
    """Returns what a storage that knows only one API holds for it."""
    [record] = (storage.load() or {}).values()
    assert isinstance(record, dict)
    return record


def alter(storage: Storage, **members: Any) -> None:
    """Changes what a storage that knows only one API holds for it."""
    [(api, record)] = (storage.load() or {}).items()
    storage.save({api: {**record, **members}})


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits until the condition is true."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "the condition does not become true"
        sleep(0.01)
