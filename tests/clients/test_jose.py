"""A JOSE library that knows nothing of this system verifies its access tokens,
with what /.well-known/ publishes, at each algorithm."""

import json
import os
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import KeySet, OctKey, import_key

JOSE = json.loads(os.environ["JOSE"])
ASYMMETRIC = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
AUDIENCE = "freshkey"
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


def get(url):
    answer = requests.get(url)
    answer.raise_for_status()
    return answer.json()


def post(url, body):
    answer = requests.post(url, json=body)
    answer.raise_for_status()
    return answer.json()


def published(algorithm):
    """The metadata, and the key set it points to; its host is the issuer's, which
    is not there, so its path is taken on the local one."""
    url = JOSE[algorithm]["url"]
    metadata = get(url + "/.well-known/openid-configuration")
    assert metadata["id_token_signing_alg_values_supported"] == [algorithm]
    assert metadata["jwks_uri"].startswith(metadata["issuer"] + "/")
    return metadata, get(url + urlsplit(metadata["jwks_uri"]).path)


def register(algorithm):
    body = {"email": f"{uuid.uuid4()}@example.com", "password": "correct horse battery"}
    return post(JOSE[algorithm]["url"] + "/api/v1/auth/register", body)


def verify(token, key, algorithm, issuer):
    """The claims of an access token that is authentic, and meant for us now."""
    token = jwt.decode(token, key, algorithms=[algorithm])
    assert token.header["typ"] == "at+jwt"
    rules = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
    )
    rules.validate(token.claims)
    return token.claims


def changed(token, part):
    """The token with another character in the middle of a part."""
    parts = token.split(".")
    middle = len(parts[part]) // 2
    other = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
    return ".".join(parts)


def both_verify_and_none_that_was_changed(algorithm, key, issuer):
    """The token of a new user, and the one that a refresh gives."""
    first = register(algorithm)
    second = post(JOSE[algorithm]["url"] + "/api/v1/auth/refresh", {"refresh_token": first["refresh_token"]})
    tokens = [first["access_token"], second["access_token"]]
    before, after = (verify(token, key, algorithm, issuer) for token in tokens)
    assert before["sub"] == after["sub"] == first["user_id"]
    assert before["jti"] != after["jti"]
    for token in tokens:
        for part in (1, 2):
            with pytest.raises(BadSignatureError):
                verify(changed(token, part), key, algorithm, issuer)
        with pytest.raises((JoseError, ValueError)):
            verify(changed(token, 0), key, algorithm, issuer)


# RFC 9864 calls the algorithm Ed25519; EdDSA is what everybody knows.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_the_published_keys_verify_access_tokens(algorithm):
    metadata, keys = published(algorithm)
    both_verify_and_none_that_was_changed(algorithm, KeySet.import_key_set(keys), metadata["issuer"])


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_what_is_published_is_the_public_half_of_the_key_by_its_thumbprint(algorithm):
    _, keys = published(algorithm)
    [key] = keys["keys"]
    assert not PRIVATE_MEMBERS & set(key)
    private = import_key(Path(JOSE[algorithm]["private_key"]).read_text(), ASYMMETRIC[algorithm])
    assert key["kid"] == import_key(key).thumbprint() == private.thumbprint()


def test_the_keys_of_another_system_verify_nothing():
    metadata, keys = published("RS256")
    _, others = published("ES256")
    token = register("RS256")["access_token"]
    verify(token, KeySet.import_key_set(keys), "RS256", metadata["issuer"])
    with pytest.raises((JoseError, ValueError)):
        verify(token, KeySet.import_key_set(others), "RS256", metadata["issuer"])


def test_hs256_publishes_no_key_and_the_plain_secret_verifies():
    metadata, keys = published("HS256")
    assert keys == {"keys": []}
    both_verify_and_none_that_was_changed("HS256", OctKey.import_key(JOSE["HS256"]["secret"]), metadata["issuer"])
