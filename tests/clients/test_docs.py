"""Runs the shell blocks of the docs unmodified, and compares what they print with
the block that follows, in which … matches any text."""

import os
import re
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
MARK = "=== next block ==="
START = 'JWT_ACCESS_TOKEN_EXPIRE_MINUTES=0.1 make dev ARGS="--allow-origin https://app.example.com"\n'


def matches(text, pattern):
    """Whether the text matches the pattern, in which … matches any text."""
    return re.fullmatch(".*?".join(map(re.escape, pattern.split("…"))), text, re.DOTALL) is not None


def test_a_pattern_matches_only_what_it_shows():
    assert matches('{"a":"eyJx","b":1}', '{"a":"eyJ…","b":1}')
    assert not matches('{"a":"eyJx","b":2}', '{"a":"eyJ…","b":1}')
    assert not matches('{"a":"eyJx"} and more', '{"a":"eyJ…"}')


# A page or a section of it, and the variable with the URL of its server.
WALKS = [
    ("clients.md", "", "DOCS_URL"),
    ("troubleshooting.md", "", "DOCS_URL"),
    ("cookies.md", "## What a request must show\n", "COOKIES_URL"),
]


@pytest.mark.parametrize("page, section, server", WALKS)
def test_a_page_shows_what_its_commands_print(page, section, server, tmp_path):
    text = (DOCS / page).read_text()
    if section:
        text = text.partition(section)[2].partition("\n## ")[0]
    fenced = text.split("```")[1::2]
    port = os.environ[server].rpartition(":")[2]
    blocks = [block.split("\n", 1) for block in fenced]
    blocks = [(language, block) for language, block in blocks if language not in ("js", "log") and block != START]
    script, expected = "", []
    for language, block in blocks:
        if language == "sh":
            script += f"echo '{MARK}'\n" + block.replace(":3000", f":{port}")
            expected.append("")
        else:
            expected[-1] = block.strip()
    assert "make dev" not in script, "the page starts the server with other options than the test"
    run = subprocess.run(["sh", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    printed = [part.strip() for part in run.stdout.replace("\r", "").split(MARK)[1:]]
    assert len(printed) == len(expected), run.stderr
    assert sum(map(bool, expected)) >= 3
    for seen, shown in zip(printed, expected):
        assert matches(seen, shown), f"the page shows\n{shown}\nbut the command prints\n{seen}"
