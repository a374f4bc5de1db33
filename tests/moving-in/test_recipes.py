"""Each recipe of docs/moving-in, as it is written there, over data as the other system
has it. Users log in with their old passwords, and go on with their old refresh tokens."""

import hashlib
import json
import os
import secrets
import subprocess
import sys
from datetime import UTC, datetime

from conftest import LONG_PASSWORD, PASSWORD, blocks, made_by
from passlib.context import CryptContext
from sqlalchemy import create_engine, text

CREATED = "2023-04-01T10:00:00Z"
SECONDS = int(datetime.fromisoformat(CREATED).timestamp())


def shell(script, directory, **variables):
    subprocess.run(["sh", "-ec", script], cwd=directory, env={**os.environ, **variables}, check=True)


def test_the_example_lines(system, tmp_path):
    users, sessions = blocks("moving-in.md", "json")
    (tmp_path / "users.jsonl").write_text(users)
    (tmp_path / "sessions.jsonl").write_text(sessions.replace('"2026-', '"2099-'))
    system.imports("import", "users.jsonl", 1)
    system.imports("import-sessions", "sessions.jsonl", 1)
    user = system.users()["ada@example.com"]
    assert (user["email_verified"], user["created_at"]) == (True, CREATED)
    assert system.refresh("test")["first_name"] == "Ada"
    system.log_in("ada@example.com", PASSWORD)


def test_symfony(system, sql, tmp_path):
    plain, hashed, expired = (secrets.token_hex(64) for _ in range(3))
    stored = "sha256$" + hashlib.sha256(hashed.encode()).hexdigest()
    sql(
        f"""
        CREATE TABLE "user" (id SERIAL PRIMARY KEY, email VARCHAR(180) NOT NULL UNIQUE, roles JSON NOT NULL,
            password VARCHAR(255) NOT NULL, first_name VARCHAR(255), last_name VARCHAR(255), phone VARCHAR(32),
            is_active BOOLEAN NOT NULL, created_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL);
        INSERT INTO "user" (email, roles, password, first_name, is_active, created_at) VALUES
            ('ada@example.com', '["ROLE_ADMIN"]', '{made_by("PHP 8.2 bcrypt")}', 'Ada "A." O''Hara', true, '2023-04-01 10:00:00'),
            ('bob@example.com', '[]', '{made_by("PHP 8.2 argon2id")}', NULL, true, '2023-04-01 10:00:00'),
            ('carl@example.com', '[]', '{made_by("Symfony bcrypt", LONG_PASSWORD)}', NULL, true, '2023-04-01 10:00:00'),
            ('dora@example.com', '[]', '{made_by("PHP 8.2 bcrypt")}', NULL, false, '2023-04-01 10:00:00');
        """,
        blocks("moving-in/symfony.md", "sql")[0],
        "users.jsonl",
    )
    system.imports("import", "users.jsonl", 4)
    sql(
        f"""
        CREATE TABLE refresh_tokens (id SERIAL PRIMARY KEY, refresh_token VARCHAR(128) NOT NULL UNIQUE,
            username VARCHAR(255) NOT NULL, valid TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL);
        INSERT INTO refresh_tokens (refresh_token, username, valid) VALUES
            ('{plain}', 'ada@example.com', now() AT TIME ZONE 'UTC' + interval '20 days'),
            ('{stored}', 'bob@example.com', now() AT TIME ZONE 'UTC' + interval '1 hour'),
            ('{expired}', 'bob@example.com', now() AT TIME ZONE 'UTC' - interval '1 hour');
        """,
        blocks("moving-in/symfony.md", "sql")[1],
        "sessions.jsonl",
    )
    assert plain not in (tmp_path / "sessions.jsonl").read_text()
    system.imports("import-sessions", "sessions.jsonl", 2)

    users = system.users()
    assert users["ada@example.com"]["roles"] == ["ROLE_ADMIN", "ROLE_USER"]
    assert users["ada@example.com"]["created_at"] == CREATED
    assert users["bob@example.com"]["roles"] == ["ROLE_USER"]
    assert not users["dora@example.com"]["is_active"]
    assert system.refresh(plain)["email"] == "ada@example.com"
    assert system.refresh(hashed)["email"] == "bob@example.com"
    assert system.is_refused(expired) and system.is_refused(stored)
    assert system.log_in("ada@example.com", PASSWORD)["first_name"] == 'Ada "A." O\'Hara'
    system.log_in("bob@example.com", PASSWORD)
    system.log_in("carl@example.com", LONG_PASSWORD)


def test_fastapi(system, tmp_path):
    database = create_engine(f"sqlite:///{tmp_path}/old.db")
    known = "0b9a5a0e-3f56-4e2c-9a0e-2f7d1f6f2f11"
    bcrypt, pbkdf2 = (CryptContext(schemes=[scheme]).hash(PASSWORD) for scheme in ["bcrypt", "pbkdf2_sha256"])
    users = [
        (known, "ada@example.com", bcrypt, "Ada Lovelace", True, True),
        ("1f0c7f9e-51a5-4d6e-8a3b-6a2f7b1f9c22", "bob@example.com", pbkdf2, None, True, False),
        ("2f0c7f9e-51a5-4d6e-8a3b-6a2f7b1f9c22", "carl@example.com", pbkdf2, None, False, False),
    ]
    with database.begin() as connection:
        connection.execute(text(
            'CREATE TABLE "user" (id CHAR(36) PRIMARY KEY, email VARCHAR(255) UNIQUE, hashed_password VARCHAR,'
            " full_name VARCHAR(255), is_active BOOLEAN, is_superuser BOOLEAN)"
        ))
        for user in users:
            names = ["id", "email", "password", "name", "active", "admin"]
            connection.execute(
                text('INSERT INTO "user" VALUES (:id, :email, :password, :name, :active, :admin)'),
                dict(zip(names, user)),
            )
    [script] = blocks("moving-in/fastapi.md", "python")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"OLD_DATABASE": str(database.url)}, check=True)
    system.imports("import", "users.jsonl", 3)
    users = system.users()
    assert users["ada@example.com"]["roles"] == ["ROLE_USER", "ROLE_ADMIN"]
    assert not users["carl@example.com"]["is_active"]
    ada = system.log_in("ada@example.com", PASSWORD)
    assert (ada["id"], ada["first_name"]) == (known, "Ada Lovelace")
    system.log_in("bob@example.com", PASSWORD)


DJANGO_SETTINGS = """
SECRET_KEY = "only for this test, and long enough for HS256"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "rest_framework_simplejwt.token_blacklist",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "old.db"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SIMPLE_JWT = {"ROTATE_REFRESH_TOKENS": True, "BLACKLIST_AFTER_ROTATION": True}
"""

DJANGO_DATA = """
import json
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework_simplejwt.tokens import RefreshToken

PASSWORD = "correct horse battery staple"
ada = User.objects.create_user("ada", "ada@example.com", PASSWORD, first_name="Ada", is_staff=True,
    date_joined=datetime.fromisoformat("2023-04-01T12:00:00+02:00"))
bob = User.objects.create_user("bob", "bob@example.com", PASSWORD)
User.objects.create_user("bobby", "Bob@example.com", PASSWORD)
User.objects.create_user("nobody", "", PASSWORD)
User.objects.create_user("carl", "carl@example.com", None)

def log_in(name):
    serializer = TokenObtainPairSerializer(data={"username": name, "password": PASSWORD})
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data["refresh"]

def rotate(token):
    serializer = TokenRefreshSerializer(data={"refresh": token})
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data["refresh"]

logged_out = log_in("ada")
RefreshToken(logged_out).blacklist()
expired = RefreshToken.for_user(ada)
expired.outstandingtoken = None
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken
OutstandingToken.objects.filter(jti=expired["jti"]).update(expires_at=datetime.fromisoformat("2024-01-01T00:00:00Z"))
spent = log_in("bob")
tokens = {"ada": log_in("ada"), "bob": rotate(spent), "dead": [logged_out, spent, str(expired)]}
json.dump(tokens, open("tokens.json", "w"))
"""


def test_django(system, tmp_path):
    (tmp_path / "settings.py").write_text(DJANGO_SETTINGS)
    (tmp_path / "manage.py").write_text(
        "import os, sys\n"
        "from django.core.management import execute_from_command_line\n"
        'os.environ["DJANGO_SETTINGS_MODULE"] = "settings"\n'
        "execute_from_command_line(sys.argv)\n"
    )
    users, sessions = blocks("moving-in/django.md", "python")
    for name, script in [("data", DJANGO_DATA), ("users", users), ("sessions", sessions)]:
        (tmp_path / f"{name}.py").write_text(script)
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    shell("python manage.py migrate -v 0\npython manage.py shell < data.py", tmp_path, PATH=path)
    for script in blocks("moving-in/django.md", "sh"):
        shell(script.split("\n", 1)[0], tmp_path, PATH=path)

    tokens = json.loads((tmp_path / "tokens.json").read_text())
    system.imports("import", "users.jsonl", 4, repeated=3)
    system.imports("import-sessions", "sessions.jsonl", 2)
    assert tokens["ada"] not in (tmp_path / "sessions.jsonl").read_text()
    users = system.users()
    assert users["ada@example.com"]["roles"] == ["ROLE_USER", "ROLE_ADMIN"]
    assert users["ada@example.com"]["created_at"] == CREATED
    assert system.refresh(tokens["ada"])["first_name"] == "Ada"
    assert system.refresh(tokens["bob"])["email"] == "bob@example.com"
    assert all(map(system.is_refused, tokens["dead"]))
    system.log_in("ada@example.com", PASSWORD)
    system.log_in("bob@example.com", PASSWORD)
    assert system.post("/api/v1/auth/login", email="carl@example.com", password=PASSWORD).status_code == 401


def test_supabase(system, sql, tmp_path):
    known = "6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31"
    sql(
        f"""
        CREATE SCHEMA auth;
        CREATE TABLE auth.users (
            instance_id uuid, id uuid PRIMARY KEY, aud varchar(255), role varchar(255), email varchar(255),
            encrypted_password varchar(255), email_confirmed_at timestamptz, invited_at timestamptz,
            last_sign_in_at timestamptz, raw_app_meta_data jsonb, raw_user_meta_data jsonb, is_super_admin boolean,
            created_at timestamptz, updated_at timestamptz, phone text UNIQUE DEFAULT NULL, phone_confirmed_at timestamptz,
            banned_until timestamptz, is_sso_user boolean NOT NULL DEFAULT false, deleted_at timestamptz,
            is_anonymous boolean NOT NULL DEFAULT false);
        INSERT INTO auth.users (id, aud, role, email, encrypted_password, email_confirmed_at, raw_user_meta_data,
            created_at, phone, banned_until, is_sso_user, deleted_at) VALUES
        ('{known}', 'authenticated', 'authenticated', 'ada@example.com', '{made_by("Go bcrypt")}', now(),
            '{{"full_name": "Ada Lovelace", "avatar_url": "https://example.com/ada.png"}}', '{CREATED}', '491701234567', NULL, false, NULL),
        (gen_random_uuid(), 'authenticated', 'authenticated', 'bob@example.com', '{made_by("Go bcrypt")}', NULL,
            '{{}}', '{CREATED}', '', now() - interval '1 day', false, NULL),
        (gen_random_uuid(), 'authenticated', 'authenticated', 'carl@example.com', '{made_by("Go bcrypt")}', now(),
            NULL, '{CREATED}', NULL, now() + interval '1 day', false, NULL),
        (gen_random_uuid(), 'authenticated', 'authenticated', 'google@example.com', '', now(),
            '{{"full_name": "Gil"}}', '{CREATED}', NULL, NULL, false, NULL),
        (gen_random_uuid(), 'authenticated', 'authenticated', 'ada@example.com', NULL, now(), '{{}}', '{CREATED}', NULL, NULL, true, NULL),
        (gen_random_uuid(), 'authenticated', 'authenticated', 'gone@example.com', NULL, now(), '{{}}', '{CREATED}', NULL, NULL, false, now()),
        (gen_random_uuid(), 'authenticated', 'authenticated', NULL, NULL, NULL, '{{}}', '{CREATED}', NULL, NULL, false, NULL);
        """,
        blocks("moving-in/supabase.md", "sql")[0],
        "users.jsonl",
    )
    system.imports("import", "users.jsonl", 4)
    users = system.users()
    assert (users["ada@example.com"]["user_id"], users["ada@example.com"]["email_verified"]) == (known, True)
    assert (users["bob@example.com"]["is_active"], users["bob@example.com"]["email_verified"]) == (True, False)
    assert not users["carl@example.com"]["is_active"]
    ada = system.log_in("ada@example.com", PASSWORD)
    assert (ada["id"], ada["first_name"], ada["phone"]) == (known, "Ada Lovelace", "+491701234567")
    system.log_in("bob@example.com", PASSWORD)


def test_keycloak(system, tmp_path):
    known = "c5a1c0a2-7c2f-4b62-9f0e-0d9d9b8e7a61"

    def user(name, hashed=None, **members):
        password = {"id": "1", "type": "password", "userLabel": "My password", "createdDate": SECONDS * 1000}
        credentials = [{**password, **json.loads(made_by(hashed))}] if hashed else []
        return {
            "id": f"c5a1c0a2-7c2f-4b62-9f0e-{secrets.token_hex(6)}", "username": name, "email": f"{name}@example.com",
            "emailVerified": True, "createdTimestamp": SECONDS * 1000 + 789, "enabled": True, "totp": False,
            "credentials": credentials, "disableableCredentialTypes": [], "requiredActions": [], "notBefore": 0,
            "realmRoles": ["default-roles-shop", "offline_access"], "groups": [], **members,
        }

    otp = {"id": "2", "type": "otp", "secretData": '{"value":"x"}', "credentialData": '{"digits":6}'}
    ada = user("ada", "Keycloak argon2id", id=known, firstName="Ada", lastName="Lovelace", realmRoles=["admin", "uma_authorization"])
    ada["credentials"].insert(0, otp)
    service = user("service-account-shop", serviceAccountClientId="shop")
    nobody = user("nobody")
    del nobody["email"]
    people = [
        ada, user("bob", "Keycloak pbkdf2-sha512"), user("carl", "Keycloak pbkdf2-sha256", enabled=False),
        user("ldap", federationLink="ldap"), service, nobody,
    ]
    (tmp_path / "realm.json").write_text(json.dumps({"realm": "shop", "enabled": True, "users": people}))
    shell(blocks("moving-in/keycloak.md", "sh")[0], tmp_path)
    system.imports("import", "users.jsonl", 4)
    users = system.users()
    assert users["ada@example.com"]["roles"] == ["admin", "ROLE_USER"]
    assert users["bob@example.com"]["roles"] == ["ROLE_USER"]
    assert users["ada@example.com"]["created_at"] == CREATED
    assert not users["carl@example.com"]["is_active"]
    ada = system.log_in("ada@example.com", PASSWORD)
    assert (ada["id"], ada["first_name"], ada["last_name"]) == (known, "Ada", "Lovelace")
    system.log_in("bob@example.com", PASSWORD)


def test_firebase(system, tmp_path):
    _, _, parameters, salt, hashed = made_by("firebase-scrypt 0.1.0").split("$")
    parameters = dict(parameter.split("=", 1) for parameter in parameters.split(","))
    user = {
        "localId": "kSx0CjAcWhWTkLZ5o6dpVNmLcVu2", "email": "ada@example.com", "emailVerified": True, "passwordHash": hashed,
        "salt": salt, "displayName": "Ada Lovelace", "photoUrl": "https://example.com/ada.png",
        "lastSignedInAt": "1764100000000", "createdAt": str(SECONDS * 1000 + 789), "phoneNumber": "+491701234567",
        "disabled": False, "providerUserInfo": [],
    }
    google = {"providerId": "google.com", "rawId": "1", "email": "gil@example.com", "displayName": "Gil"}
    others = [
        {"localId": "2", "email": "gil@example.com", "emailVerified": True, "createdAt": "1680343200000", "providerUserInfo": [google]},
        {**user, "localId": "3", "email": "carl@example.com", "disabled": True},
        {"localId": "4", "createdAt": "1680343200000", "phoneNumber": "+491701234568", "providerUserInfo": []},
    ]
    (tmp_path / "firebase.json").write_text(json.dumps({"users": [user, *others]}))
    shell(blocks("moving-in/firebase.md", "sh")[0], tmp_path, SIGNER_KEY=parameters["sk"], SALT_SEPARATOR=parameters["ss"])
    system.imports("import", "users.jsonl", 3)
    assert system.users()["ada@example.com"]["created_at"] == CREATED
    assert not system.users()["carl@example.com"]["is_active"]
    ada = system.log_in("ada@example.com", PASSWORD)
    assert (ada["first_name"], ada["phone"]) == ("Ada Lovelace", "+491701234567")
