"""The local system and the proxy in front of it, for tests; and what they need to tell."""

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

from freshkey._tokens import claims

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "correct horse battery"
REFRESH = "POST /api/v1/auth/refresh"


def start(command: list[str], variables: dict[str, str] | None = None) -> tuple[subprocess.Popen[str], str]:
    """A server of its own process, and the line with which it says where it listens."""
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
    """A local system of its own; gives its URL. Cargo builds it unless FRESHKEY_LOCAL names a binary."""
    binary = os.environ.get("FRESHKEY_LOCAL")
    command = [binary] if binary else ["cargo", "run", "--quiet", "--bin", "local", "--"]
    process, greeting = start([*command, "--port", "0"], variables)
    with process, open(os.devnull, "w") as nowhere:
        # It logs each request: read on, or it would stop when the pipe is full.
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
        """What happens to requests by chance."""
        self._tell(faults=faults)

    def next(self, *names: str, only: str = "/refresh$") -> None:
        """What happens to the next requests to refresh, or to those that match; by chance, to nothing."""
        self._tell(faults={"only": only}, next=names)

    def release(self) -> None:
        """Lets go of the answers that are held."""
        self._tell(release=True)

    def requests(self, which: str = "") -> list[dict[str, Any]]:
        """The requests that came so far, of those whose `METHOD /path` begins so."""
        log = self._http.get(self._control).json()["requests"]
        return [entry for entry in log if f"{entry['method']} {entry['path']}".startswith(which)]

    def clear(self) -> None:
        """Forgets the requests that came so far."""
        self._http.delete(self._control).raise_for_status()

    def _tell(self, **what: Any) -> None:
        self._http.put(self._control, json=what).raise_for_status()


@contextmanager
def proxy(target: str, seed: int = 1) -> Iterator[Proxy]:
    """A proxy in front of the server at this URL."""
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
    """A server that is not ours, such as a portal for guests: a page, or a redirect, for whatever it is
    asked. Gives its URL and the headers of the requests that came."""
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
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def post(url: str, path: str, **body: str) -> httpx.Response:
    """A request that none of our code made."""
    return httpx.post(url + path, json=body)


def a_user(url: str) -> str:
    """The e-mail address of a new user."""
    email = f"{uuid.uuid4()}@example.com"
    post(url, "/api/v1/auth/register", email=email, password=PASSWORD).raise_for_status()
    return email


def generation(refresh_token: str) -> int:
    """How often a session's token has been rotated, and one."""
    number: int = claims(refresh_token)["gen"]
    return number


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for something to come true."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "it does not come true"
        sleep(0.01)
