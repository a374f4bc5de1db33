"""A Symfony backend with 1,000 open sessions moves in. Its clients change the base URL and
nothing else: they stay signed in, and their users still have the old passwords."""

import base64
import hashlib
import json
import os
import random
import secrets
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import strangers
from conftest import HERE, LONG_PASSWORD, PASSWORD, blocks, made_by
from journey import burst

USERS = 250
TOKENS = 1000
# The password and the hash of every third user.
PASSWORDS = [
    (PASSWORD, made_by("PHP 8.2 bcrypt")),
    (PASSWORD, made_by("PHP 8.2 argon2id")),
    (LONG_PASSWORD, made_by("Symfony bcrypt", LONG_PASSWORD)),
]
IN_NODE = ["SingleFlightFetch", "QueueingAxios", "NaiveFetch"]
IN_PYTHON = ["Locked", "Naive"]


def email(number):
    return f"u{number}@example.com"


def access_token(number):
    """Returns an access token of lexik's bundle, which has expired."""
    now = int(time.time())
    payload = {"iat": now - 3600, "exp": now - 1, "roles": ["ROLE_USER"], "username": email(number)}
    parts = [json.dumps({"typ": "JWT", "alg": "RS256"}).encode(), json.dumps(payload).encode(), secrets.token_bytes(256)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def go_on(client, user, password):
    """A burst of calls now and after the next expiry, and a login at the end."""
    chance = random.Random(user)
    for _ in range(2):
        before = client.access_token
        assert burst(client, chance, client.me) == [user] * 20
        assert client.access_token != before
    client.login(user, password)
    assert client.me()["email"] == user


def test_nobody_is_signed_out_and_nobody_sets_a_new_password(system, sql):
    tokens = [secrets.token_hex(64) for _ in range(TOKENS)]
    # The first half was stored before the project turned `hash_tokens` on.
    stored = tokens[: TOKENS // 2]
    stored += ["sha256$" + hashlib.sha256(token.encode()).hexdigest() for token in tokens[TOKENS // 2 :]]
    users = [f"('{email(n)}', '[]', '{PASSWORDS[n % 3][1]}', true, now())" for n in range(USERS)]
    rows = [f"('{token}', '{email(n % USERS)}', now() + interval '{n + 1} hours')" for n, token in enumerate(stored)]
    tables = f"""
        SET TIME ZONE 'UTC';
        CREATE TABLE "user" (id SERIAL PRIMARY KEY, email VARCHAR(180) UNIQUE, roles JSON, password VARCHAR(255),
            first_name VARCHAR(255), last_name VARCHAR(255), phone VARCHAR(32), is_active BOOLEAN, created_at TIMESTAMP(0));
        INSERT INTO "user" (email, roles, password, is_active, created_at) VALUES {", ".join(users)};
        CREATE TABLE refresh_tokens (id SERIAL PRIMARY KEY, refresh_token VARCHAR(128) UNIQUE, username VARCHAR(255),
            valid TIMESTAMP(0));
        INSERT INTO refresh_tokens (refresh_token, username, valid) VALUES {", ".join(rows)};
    """
    for recipe, file in zip(blocks("moving-in/symfony.md", "sql"), ["users.jsonl", "sessions.jsonl"]):
        sql(tables, recipe, file)
    for command, file, number in [("import", "users.jsonl", USERS), ("import-sessions", "sessions.jsonl", TOKENS)]:
        code, [summary] = system.freshkey(command, file)
        assert (code, summary["imported"]) == (0, number)

    def member(number, kind):
        """A client that was signed in with the token of this number."""
        return {
            "kind": kind,
            "email": email(number % USERS),
            "password": PASSWORDS[number % USERS % 3][0],
            "token": access_token(number),
            "refresh_token": tokens[number],
        }

    # The tokens of both forms, and the passwords of every form, have clients of every kind.
    kinds = IN_NODE + IN_PYTHON
    numbers = [100 * at + at % 3 for at in range(2 * len(kinds))]
    members = [member(number, kinds[at % len(kinds)]) for at, number in enumerate(numbers)]
    in_node = [one for one in members if one["kind"] in IN_NODE]
    node = subprocess.Popen(["node", HERE / "going_on.js", system.url], env={**os.environ, "CLIENTS": json.dumps(in_node)})
    in_python = [one for one in members if one["kind"] in IN_PYTHON]
    with ThreadPoolExecutor(len(in_python)) as threads:
        going = []
        for one in in_python:
            client = getattr(strangers, one["kind"])(system.url, strangers.DIALECTS["lexik"])
            client.keep(one)
            going.append(threads.submit(go_on, client, one["email"], one["password"]))
    for one in going:
        one.result()
    assert node.wait() == 0

    # All the others come, too.
    for number in set(range(TOKENS)) - set(numbers):
        answer = system.post("/api/token/refresh", refresh_token=tokens[number])
        assert answer.status_code == 200, answer.text

    log = system.stop()
    assert log.count('event="authn_login_success"') == len(members), "only at the end has anybody logged in"
    assert log.count('event="authn_token_created"') >= TOKENS
    assert "authn_token_reuse" not in log and "authn_login_fail" not in log
