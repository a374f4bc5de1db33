"""Makes hashes.jsonl, each hash by the software that it is named after. README.md says how to run it."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import version as installed
from pathlib import Path

import argon2
import bcrypt
import django
import firebase_scrypt
import passlib.hash
from django.conf import settings
from django.contrib.auth import hashers as django_hashers
from werkzeug.security import generate_password_hash

HERE = Path(__file__).parent
# A password in ASCII; one with an accent, composed and decomposed; one that is longer than
# the 72 bytes that bcrypt reads; one with a NUL.
PASSWORDS = [
    "correct horse battery staple",
    "caf\u00e9 au lait, s'il vous pla\u00eet",
    "cafe\u0301 au lait, s'il vous plai\u0302t",
    "a quiet river under seven bridges, and a lantern in every window of the harbour",
    "before\0after",
]
# Of Firebase: the key and the separator are those of the sample in firebase/scrypt.
SIGNER_KEY = "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
SEPARATOR = "Bw=="


def main():
    tools = [
        [os.environ.get("PHP", "php"), "-n", HERE / "hashes.php"],
        [os.environ["GO_HASHES"]],
        ["java", "-cp", os.environ["KEYCLOAK_CLASSPATH"], HERE / "Hashes.java"],
    ]
    settings.configure(PASSWORD_HASHERS=[])
    with (HERE / "hashes.jsonl").open("w") as file:
        lines = list(known())
        for password in PASSWORDS:
            cost = "default" if password == PASSWORDS[0] else "low"
            for name, hashed in python(password, cost == "default"):
                lines.append((name, password, hashed))
            for tool in tools:
                command = [*map(str, tool), password.encode().hex(), cost]
                for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
                    name, hashed = line.split("\t")
                    lines.append((name, password, hashed))
        for name, password, hashed in lines:
            file.write(json.dumps({"from": name, "password": password, "hash": hashed}) + "\n")


def known():
    """Hashes that others have published."""
    salt = "42xEC+ixf3L2lw=="
    hashed = "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
    yield "the README of firebase/scrypt", "user1password", firebase(14, salt, hashed)
    # internal/crypto/password_test.go of supabase/auth
    yield "the tests of GoTrue", "mytestpassword", (
        "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=ou9tdYTGyYm8kuR6Dt0Bp0kDuAYoXrK16mbZO4yGwAn3oLspjnN0/c41v8xZnO1n14J3MjKj"
        "1b2g6AUCAlFwMw==$C0sHCg9ek77hsg==$zKVTMvnWVw5BBOZNUdnsalx4c4c7y/w7IS5p6Ut2+CfEFFlz37J9huyQfov4iizN8dbjvEJlM5tQ"
        "aJP84+hfTw=="
    )


def python(password, by_default):
    """Hashes of Python's libraries, with their own defaults or as cheap as possible."""
    salt = bcrypt.gensalt(12 if by_default else 4)
    is_short = len(password.encode()) <= 72 and "\0" not in password
    if is_short:
        yield f"bcrypt {installed('bcrypt')}, as passlib calls it", bcrypt.hashpw(password.encode(), salt).decode()
        yield f"bcrypt {installed('bcrypt')}, 2a", bcrypt.hashpw(password.encode(), salt.replace(b"$2b$", b"$2a$")).decode()

    cheap = {"time_cost": 1, "memory_cost": 256, "parallelism": 2}
    for variant in argon2.Type:
        hasher = argon2.PasswordHasher(type=variant, **({} if by_default else cheap))
        yield f"argon2-cffi {installed('argon2-cffi')}, {variant.name}", hasher.hash(password)
    low_level = argon2.low_level.hash_secret(password.encode(), os.urandom(16), 1, 256, 1, 32, argon2.Type.ID, version=16)
    yield f"argon2-cffi {installed('argon2-cffi')}, version 1.0", low_level.decode()

    for name in ("pbkdf2_sha1", "pbkdf2_sha256", "pbkdf2_sha512", "scrypt"):
        hasher = getattr(passlib.hash, name)
        if not by_default:
            hasher = hasher.using(rounds=4 if name == "scrypt" else 100)
        if "\0" not in password:
            yield f"passlib {installed('passlib')} {hasher.name}", hasher.hash(password)

    version = f"Django {django.get_version()}"
    for name in ("PBKDF2", "PBKDF2SHA1", "Argon2", "BCryptSHA256", "BCrypt", "Scrypt"):
        if name == "BCrypt" and not is_short:
            continue
        hasher = getattr(django_hashers, f"{name}PasswordHasher")()
        if not by_default:
            for cost, value in CHEAP_DJANGO.get(name, {}).items():
                setattr(hasher, cost, value)
        yield f"{version} {name}PasswordHasher", hasher.encode(password, hasher.salt())

    version = f"Werkzeug {installed('werkzeug')}"
    for default, cheap in (
        ("scrypt", "scrypt:1024:8:1"),
        ("pbkdf2", "pbkdf2:sha256:1000"),
        ("pbkdf2:sha1:1000", "pbkdf2:sha1:1000"),
        ("pbkdf2:sha512:1000", "pbkdf2:sha512:1000"),
    ):
        yield f"{version} {default}", generate_password_hash(password, default if by_default else cheap)

    salt, memory = base64.b64encode(os.urandom(10)).decode(), 14 if by_default else 8
    hashed = firebase_scrypt.encrypt(
        base64.b64decode(SIGNER_KEY),
        firebase_scrypt.generate_derived_key(password, salt, SEPARATOR, 8, memory)[:32],
    )
    yield f"firebase-scrypt {installed('firebase-scrypt')}", firebase(memory, salt, base64.b64encode(hashed).decode())

    # The standard library, which is OpenSSL, in PHC string format (no padding).
    salt, iterations = os.urandom(16), 600_000 if by_default else 1000
    for name in ("sha1", "sha256", "sha512"):
        hashed = hashlib.pbkdf2_hmac(name, password.encode(), salt, iterations // 3)
        yield f"OpenSSL pbkdf2-{name}", f"$pbkdf2-{name}$i={iterations // 3},l={len(hashed)}${b64(salt)}${b64(hashed)}"
    hashed = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
    yield "OpenSSL scrypt", f"$scrypt$ln=14,r=8,p=1${b64(salt)}${b64(hashed)}"


CHEAP_DJANGO = {
    "PBKDF2": {"iterations": 1000},
    "PBKDF2SHA1": {"iterations": 1000},
    "Argon2": {"time_cost": 1, "memory_cost": 256, "parallelism": 1},
    "BCryptSHA256": {"rounds": 4},
    "BCrypt": {"rounds": 4},
    "Scrypt": {"work_factor": 1024},
}


def firebase(memory, salt, hashed):
    return f"$fbscrypt$v=1,n={memory},r=8,p=1,ss={SEPARATOR},sk={SIGNER_KEY}${salt}${hashed}"


def b64(data):
    return base64.b64encode(data).decode().rstrip("=")


if __name__ == "__main__":
    sys.exit(main())
