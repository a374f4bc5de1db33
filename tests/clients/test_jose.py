"""An independent JOSE library verifies access tokens of each algorithm, with the
documents under /.well-known/."""

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
    """Returns the metadata and the key set that it names. The host in its URL is the
    issuer's, which does not exist, so only the path is used."""
    url = JOSE[algorithm]["url"]
    metadata = get(url + "/.well-known/openid-configuration")
    assert metadata["id_token_signing_alg_values_supported"] == [algorithm]
    assert metadata["jwks_uri"].startswith(metadata["issuer"] + "/")
    return metadata, get(url + urlsplit(metadata["jwks_uri"]).path)


def register(algorithm):
    body = {"email": f"{uuid.uuid4()}@example.com", "password": "correct horse battery"}
    return post(JOSE[algorithm]["url"] + "/api/v1/auth/register", body)


def verify(token, key, algorithm, issuer):
    """Returns the claims of an access token. Raises JoseError unless it is authentic,
    unexpired, and has our issuer and audience."""
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
    """Returns the token with another character in the middle of a part."""
    parts = token.split(".")
    middle = len(parts[part]) // 2
    other = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
    return ".".join(parts)


def check_verification(algorithm, key, issuer):
    """The tokens of a registration and of a refresh verify, and changed ones do not."""
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


# RFC 9864 renames the algorithm to Ed25519. This system uses the well-known name.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_the_published_keys_verify_access_tokens(algorithm):
    metadata, keys = published(algorithm)
    check_verification(algorithm, KeySet.import_key_set(keys), metadata["issuer"])


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_only_the_public_key_is_published_under_its_thumbprint(algorithm):
    _, keys = published(algorithm)
    [key] = keys["keys"]
    assert not PRIVATE_MEMBERS & set(key)
    private = import_key(Path(JOSE[algorithm]["private_key"]).read_text(), ASYMMETRIC[algorithm])
    assert key["kid"] == import_key(key).thumbprint() == private.thumbprint()


def test_the_keys_of_another_system_verify_no_token():
    metadata, keys = published("RS256")
    _, others = published("ES256")
    token = register("RS256")["access_token"]
    verify(token, KeySet.import_key_set(keys), "RS256", metadata["issuer"])
    with pytest.raises((JoseError, ValueError)):
        verify(token, KeySet.import_key_set(others), "RS256", metadata["issuer"])


def test_hs256_publishes_no_key_and_the_plain_secret_verifies():
    metadata, keys = published("HS256")
    assert keys == {"keys": []}
    check_verification("HS256", OctKey.import_key(JOSE["HS256"]["secret"]), metadata["issuer"])
