"""POST /api/v1/auth/refresh in Python: rotates a refresh token on the table that Freshkey uses."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import jwt

TABLE = os.environ["TABLE_NAME"]
ISSUER = os.environ["JWT_ISSUER"]
AUDIENCE = os.environ["JWT_AUDIENCE"]
REFRESH_AUDIENCE = "urn:freshkey:refresh"
REFRESH_LABEL = b"freshkey refresh token v1"
REFRESH_CLAIMS = ["iss", "aud", "sub", "sid", "gen", "sec", "auth_time", "abs", "iat", "exp"]
ACCESS_SECONDS = 60 * 60
IDLE_SECONDS = 30 * 24 * 60 * 60
CONDITION = (
    "secret_hash = :secret_hash AND generation <= :generation AND expires_at > :now"
    " AND attribute_not_exists(revoked_at)"
)
UPDATE = (
    "SET generation = :next, attempt = :attempt, rotated_at = :now_millis, last_used_at = :now,"
    " expires_at = :expires_at, ip = :ip, user_agent = :user_agent"
)


class InvalidRefreshToken(Exception):
    """The refresh token is forged, expired, spent or revoked."""


def derive(secret, label):
    """HKDF-SHA256 to 32 bytes, without a salt (RFC 5869)."""
    pseudorandom = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(pseudorandom, label + b"\x01", "sha256")


dynamodb = boto3.client("dynamodb")
threads = ThreadPoolExecutor(max_workers=1)
_secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["JWT_SECRET_ARN"])
keys = json.loads(_secret["SecretString"])
signing, refresh = keys.pop("signing"), keys.pop("refresh")
refresh_keys = {kid: derive(key.encode(), REFRESH_LABEL) for kid, key in keys.items()}


def handler(event, context):
    try:
        return answer(200, "application/json", rotate(event, context))
    except InvalidRefreshToken:
        problem = {"title": "Unauthorized", "status": 401, "error": "invalid_refresh_token"}
        return answer(401, "application/problem+json", problem)


def rotate(event, context):
    now_millis = time.time_ns() // 1_000_000
    now = now_millis // 1000
    token = verified(json.loads(event["body"])["refresh_token"], now)
    user, session = read_and_write(token, event, context, now_millis)
    if not user["is_active"]["BOOL"] or int(session["epoch"]["N"]) < int(user["epoch"]["N"]):
        raise InvalidRefreshToken
    expires_at = int(session["expires_at"]["N"])
    issued_at = int(session["rotated_at"]["N"]) // 1000
    successor = token | {"gen": int(session["generation"]["N"]), "iat": issued_at, "exp": expires_at}
    access = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": token["sub"],
        "sid": token["sid"],
        "iat": now,
        "nbf": now,
        "exp": now + ACCESS_SECONDS,
        "jti": secrets.token_urlsafe(16),
        "roles": [role["S"] for role in user["roles"]["L"]],
    }
    return {
        "access_token": sign("at+jwt", signing, keys[signing], access),
        "refresh_token": sign("rt+jwt", refresh, refresh_keys[refresh], successor),
        "token_type": "Bearer",
        "expires_in": ACCESS_SECONDS,
        "refresh_expires_in": expires_at - now,
    }


def verified(token, now):
    """The claims of an authentic refresh token."""
    try:
        header = jwt.get_unverified_header(token)
        key = refresh_keys.get(header.get("kid"))
        if header.get("typ") != "rt+jwt" or key is None:
            raise InvalidRefreshToken
        claims = jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            issuer=ISSUER,
            audience=REFRESH_AUDIENCE,
            options={"require": REFRESH_CLAIMS},
        )
    except jwt.InvalidTokenError as error:
        raise InvalidRefreshToken from error
    if claims["abs"] <= now:
        raise InvalidRefreshToken
    return claims


def read_and_write(token, event, context, now_millis):
    """The user, and the session as this attempt left it, in one round trip."""
    partition, now = {"S": f"USER#{token['sub']}"}, now_millis // 1000
    key = event["headers"].get("idempotency-key")
    identity = f"idempotency-key:{key}" if key else f"request:{context.aws_request_id}"
    attempt = hashlib.sha256(identity.encode()).digest()
    secret = base64.urlsafe_b64decode(token["sec"] + "=")
    client = event["requestContext"]["http"]
    read = threads.submit(
        dynamodb.get_item, TableName=TABLE, Key={"pk": partition, "sk": {"S": "PROFILE"}}, ConsistentRead=True
    )
    try:
        written = dynamodb.update_item(
            TableName=TABLE,
            Key={"pk": partition, "sk": {"S": f"SESSION#{token['sid']}"}},
            ConditionExpression=CONDITION,
            UpdateExpression=UPDATE,
            ExpressionAttributeValues={
                ":secret_hash": {"B": hashlib.sha256(secret).digest()},
                ":generation": {"N": str(token["gen"])},
                ":next": {"N": str(token["gen"] + 1)},
                ":attempt": {"B": attempt},
                ":now": {"N": str(now)},
                ":now_millis": {"N": str(now_millis)},
                ":expires_at": {"N": str(min(now + IDLE_SECONDS, token["abs"]))},
                ":ip": {"S": client["sourceIp"]},
                ":user_agent": {"S": client.get("userAgent", "")[:256]},
            },
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        session = written["Attributes"]
    except dynamodb.exceptions.ConditionalCheckFailedException as refused:
        session = refused.response.get("Item")
        # The attempt whose answer was lost gets it again.
        if not session or not (
            session["secret_hash"]["B"] == hashlib.sha256(secret).digest()
            and int(session["expires_at"]["N"]) > now
            and "revoked_at" not in session
            and int(session["generation"]["N"]) == token["gen"] + 1
            and session.get("attempt", {}).get("B") == attempt
        ):
            raise InvalidRefreshToken from refused
    user = read.result().get("Item")
    if not user:
        raise InvalidRefreshToken
    return user, session


def sign(typ, kid, key, claims):
    return jwt.encode(claims, key, "HS256", headers={"typ": typ, "kid": kid})


def answer(status, content_type, body):
    headers = {"content-type": content_type, "cache-control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(body), "isBase64Encoded": False}
