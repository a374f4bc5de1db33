"""The local system with its command, and the recipes on the pages of docs/moving-in."""

import json
import os
import re
import secrets
import socket
import subprocess
from itertools import count
from pathlib import Path
from threading import Thread

import pytest
import requests

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOCAL = os.environ["FRESHKEY_LOCAL"]
COMMAND = os.environ["FRESHKEY_COMMAND"]
HASHES = ROOT / "shared" / "src" / "password" / "testdata" / "hashes.jsonl"
# Passwords in HASHES. The second is one that Symfony hashes before bcrypt does.
PASSWORD = "correct horse battery staple"
LONG_PASSWORD = "a quiet river under seven bridges, and a lantern in every window of the harbour"


def blocks(page, language):
    """Returns the blocks in a language on a page of docs, in order."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def made_by(software, password=PASSWORD):
    """Returns the hash of a password that a software made."""
    hashes = map(json.loads, HASHES.read_text().splitlines())
    return next(line["hash"] for line in hashes if (line["from"], line["password"]) == (software, password))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class System:
    """A local system, and the command `freshkey` on its table."""

    def __init__(self, directory):
        table_port = free_port()
        self.directory = directory
        self.environment = {
            **os.environ,
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "IMPORTED_TOKENS_UNTIL": "2999-01-01:k1",
            "REFRESH_REUSE_INTERVAL_SECONDS": "60",
            "JWT_ACCESS_TOKEN_EXPIRE_MINUTES": "0.25",
            "MAIL_FROM": "no-reply@example.com",
            "RESET_URL": "https://app.example.com/reset",
            "CONFIRM_URL": "https://app.example.com/confirm",
            "TEST_PATIENCE": "50",  # nothing depends on how long the engine takes
        }
        self.table = ["--table", "Table", "--endpoint", f"http://127.0.0.1:{table_port}"]
        command = [LOCAL, "--port", "0", "--table-port", str(table_port)]
        self.process = subprocess.Popen(
            command, cwd=directory, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.url = re.search(r"http://[\d.:]+\d", self.process.stdout.readline()).group()
        self.log = []
        self.reader = Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def stop(self):
        """Stops the system and returns what it logged."""
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        return "".join(self.log)

    def freshkey(self, *arguments):
        """Runs the command. Returns its exit code and the objects that it prints."""
        command = [COMMAND, *self.table, "--json", *arguments]
        run = subprocess.run(command, cwd=self.directory, env=self.environment, capture_output=True, text=True)
        assert run.returncode in (0, 1), run.stderr
        return run.returncode, [json.loads(line) for line in run.stdout.splitlines()]

    def imports(self, command, file, expected, repeated=None):
        """Imports a file with this many lines, after a dry run, and again. `repeated` is
        the number of a line whose address the line before it has."""
        for options, outcome in [(["--dry-run"], "imported"), ([], "imported"), ([], "there")]:
            code, [*refused, summary] = self.freshkey(command, file, *options)
            reasons = [(repeated, f"the address is in line {repeated - 1}, too")] if repeated else []
            assert [(line["line"], line["reason"]) for line in refused] == reasons
            assert code == (1 if reasons else 0)
            assert summary[outcome] + len(refused) == expected, summary

    def users(self):
        """Returns the users, by address."""
        return {user["email"]: user for user in self.freshkey("users", "list")[1]}

    def post(self, path, **body):
        return requests.post(self.url + path, json=body)

    def log_in(self, email, password):
        """Logs in, and not with a wrong password. Returns the user."""
        wrong = self.post("/api/v1/auth/login", email=email, password=password + "x")
        assert wrong.status_code == 401, wrong.text
        answer = self.post("/api/v1/auth/login", email=email, password=password)
        assert answer.status_code == 200, answer.text
        return self.me(answer.json()["access_token"])

    def refresh(self, token):
        """Goes on with a refresh token. Returns the user."""
        answer = self.post("/api/v1/auth/refresh", refresh_token=token)
        assert answer.status_code == 200, answer.text
        return self.me(answer.json()["access_token"])

    def me(self, access_token):
        answer = requests.get(self.url + "/api/v1/users/me", headers={"authorization": f"Bearer {access_token}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def is_refused(self, token):
        """Whether a refresh token is refused."""
        return self.post("/api/v1/auth/refresh", refresh_token=token).status_code == 401


@pytest.fixture
def system(tmp_path):
    system = System(tmp_path)
    yield system
    system.stop()


@pytest.fixture
def sql(tmp_path):
    """Runs a recipe in SQL over the tables that a script makes, and writes a file of lines."""
    numbers = count()

    def run(script, recipe, file):
        paths = [tmp_path / f"{next(numbers)}.sql" for _ in range(2)]
        for path, text in zip(paths, [script, recipe]):
            path.write_text(text)
        with (tmp_path / file).open("w") as output:
            subprocess.run(["node", HERE / "sql.js", *paths], stdout=output, check=True)

    return run
