"""The package builds, installs in an empty environment, and its README is right."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import PASSWORD, a_user, held, linked, post

from freshkey import FileStorage

HERE = Path(__file__).resolve().parents[1]
BLOCKS: list[str] = re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL)
FIRST, HTTPX, REQUESTS, RECOVERY, ASYNCIO, ERRORS = BLOCKS


def run(*command: str | Path, folder: Path = HERE) -> str:
    """Runs a command and returns its output. Fails with that output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel with `python -m build`."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder)
    [wheel] = folder.glob("freshkey-*-py3-none-any.whl")
    assert len(list(folder.glob("freshkey-*.tar.gz"))) == 1
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installs the wheel and its dependencies in a new environment, and returns its Python."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", folder)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    return python


def code(block: str, url: str, email: str) -> str:
    """Returns a block of the README, changed to another server and user."""
    changed = block.replace("http://127.0.0.1:3000", url).replace("ada@example.com", email)
    assert changed != block
    assert PASSWORD in block or "login" not in block
    return changed


def test_the_wheel_has_types_licences_and_the_address_of_the_repository(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "freshkey/py.typed" in names
    assert {name.rsplit("/", 1)[1] for name in names if "/licenses/" in name} == {
        "LICENSE-APACHE",
        "LICENSE-MIT",
    }
    assert not [name for name in names if not name.startswith(("freshkey/", "freshkey-"))]
    [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
    assert re.search(
        r"^Project-URL: Repository, https://\S+$",
        zipfile.ZipFile(wheel).read(metadata).decode(),
        re.MULTILINE,
    )


def test_five_lines_make_a_first_call(python: Path, local: str, tmp_path: Path) -> None:
    lines = [line for line in FIRST.splitlines() if line]
    assert len(lines) <= 5
    email = a_user(local)
    said = run(python, "-W", "error", "-c", code(FIRST, local, email), folder=tmp_path)
    assert email in said
    assert held(FileStorage(tmp_path / "session.json"))["access_token"] not in said
    said = run(python, "-W", "error", "-c", code(ASYNCIO, local, email), folder=tmp_path)
    assert email in said, "the second program is still signed in"


def test_the_wheel_needs_only_httpx(python: Path) -> None:
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"))
    names = {entry["name"].lower() for entry in listed}
    brought = {
        "httpx",
        "httpcore",
        "h11",
        "anyio",
        "certifi",
        "idna",
        "sniffio",
        "typing-extensions",
        "typing_extensions",
    }
    assert names - brought - {"exceptiongroup", "pip", "setuptools"} == {"freshkey"}


@pytest.mark.parametrize("block", [HTTPX, REQUESTS, ERRORS], ids=["httpx", "requests", "errors"])
def test_the_further_examples_of_the_readme_work(local: str, tmp_path: Path, block: str) -> None:
    email = a_user(local)
    print_me = 'print(client.me()["email"])' if block is ERRORS else ""
    first = 'from freshkey import AuthClient\nclient = AuthClient("http://127.0.0.1:3000")\n'
    login = "" if block is ERRORS else f'client.login("ada@example.com", "{PASSWORD}")\n'
    said = run(sys.executable, "-c", code(first + login + block + print_me, local, email), folder=tmp_path)
    assert email in said


def test_the_example_of_a_forgotten_password_works(local: str) -> None:
    email = a_user(local)
    command = [sys.executable, "-c", code(RECOVERY, local, email)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        said, _ = program.communicate(linked(local, email, "reset") + "\n", timeout=60)
    assert program.returncode == 0
    assert said == "What follows #token= in the link of the mail: "
    answer = post(local, "/api/v1/auth/login", email=email, password="a quiet river under seven bridges")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "command", [["mypy"], ["ruff", "check"], ["ruff", "format", "--check"]], ids=["mypy", "check", "format"]
)
def test_the_linters_find_nothing(command: list[str]) -> None:
    run(sys.executable, "-m", *command)
