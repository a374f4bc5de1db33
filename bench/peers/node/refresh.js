// POST /api/v1/auth/refresh in Node: rotates a refresh token on the table that Freshkey uses.

import { createHash, hkdfSync, randomBytes } from "node:crypto";
import { ConditionalCheckFailedException, DynamoDBClient, GetItemCommand, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { errors, jwtVerify, SignJWT } from "jose";

const { TABLE_NAME, JWT_ISSUER, JWT_AUDIENCE, JWT_SECRET_ARN } = process.env;
const REFRESH_AUDIENCE = "urn:freshkey:refresh";
const REFRESH_LABEL = "freshkey refresh token v1";
const REFRESH_CLAIMS = ["sub", "sid", "gen", "sec", "auth_time", "abs", "iat", "exp"];
const ACCESS_SECONDS = 60 * 60;
const IDLE_SECONDS = 30 * 24 * 60 * 60;
const CONDITION =
  "secret_hash = :secret_hash AND generation <= :generation AND expires_at > :now" +
  " AND attribute_not_exists(revoked_at)";
const UPDATE =
  "SET generation = :next, attempt = :attempt, rotated_at = :now_millis, last_used_at = :now," +
  " expires_at = :expires_at, ip = :ip, user_agent = :user_agent";

class InvalidRefreshToken extends Error {}

const sha256 = (data) => createHash("sha256").update(data).digest();

const dynamodb = new DynamoDBClient({});
const secret = await new SecretsManagerClient({}).send(new GetSecretValueCommand({ SecretId: JWT_SECRET_ARN }));
const { signing, refresh, ...texts } = JSON.parse(secret.SecretString);
const accessKeys = new Map();
const refreshKeys = new Map();
for (const [kid, text] of Object.entries(texts)) {
  accessKeys.set(kid, new TextEncoder().encode(text));
  refreshKeys.set(kid, new Uint8Array(hkdfSync("sha256", text, "", REFRESH_LABEL, 32)));
}

export async function handler(event, context) {
  try {
    return answer(200, "application/json", await rotate(event, context));
  } catch (error) {
    if (!(error instanceof InvalidRefreshToken)) throw error;
    const problem = { title: "Unauthorized", status: 401, error: "invalid_refresh_token" };
    return answer(401, "application/problem+json", problem);
  }
}

async function rotate(event, context) {
  const nowMillis = Date.now();
  const now = Math.floor(nowMillis / 1000);
  const token = await verified(JSON.parse(event.body).refresh_token, now);
  const [session, user] = await Promise.all([write(token, event, context, nowMillis), read(token)]);
  if (!user?.is_active.BOOL || Number(session.epoch.N) < Number(user.epoch.N)) throw new InvalidRefreshToken();
  const expiresAt = Number(session.expires_at.N);
  const issuedAt = Math.floor(Number(session.rotated_at.N) / 1000);
  const successor = { ...token, gen: Number(session.generation.N), iat: issuedAt, exp: expiresAt };
  const access = {
    iss: JWT_ISSUER,
    aud: JWT_AUDIENCE,
    sub: token.sub,
    sid: token.sid,
    iat: now,
    nbf: now,
    exp: now + ACCESS_SECONDS,
    jti: randomBytes(16).toString("base64url"),
    roles: user.roles.L.map((role) => role.S),
  };
  const [accessToken, refreshToken] = await Promise.all([
    sign("at+jwt", signing, accessKeys.get(signing), access),
    sign("rt+jwt", refresh, refreshKeys.get(refresh), successor),
  ]);
  return {
    access_token: accessToken,
    refresh_token: refreshToken,
    token_type: "Bearer",
    expires_in: ACCESS_SECONDS,
    refresh_expires_in: expiresAt - now,
  };
}

/** The claims of an authentic refresh token. */
async function verified(token, now) {
  const keyOf = ({ kid }) => {
    if (!refreshKeys.has(kid)) throw new InvalidRefreshToken();
    return refreshKeys.get(kid);
  };
  const expected = {
    algorithms: ["HS256"],
    typ: "rt+jwt",
    issuer: JWT_ISSUER,
    audience: REFRESH_AUDIENCE,
    requiredClaims: REFRESH_CLAIMS,
  };
  try {
    const { payload } = await jwtVerify(token, keyOf, expected);
    if (payload.abs <= now) throw new InvalidRefreshToken();
    return payload;
  } catch (error) {
    throw error instanceof errors.JOSEError ? new InvalidRefreshToken() : error;
  }
}

/** The user. */
async function read({ sub }) {
  const key = { pk: { S: `USER#${sub}` }, sk: { S: "PROFILE" } };
  return (await dynamodb.send(new GetItemCommand({ TableName: TABLE_NAME, Key: key, ConsistentRead: true }))).Item;
}

/** The session as this attempt left it. */
async function write(token, event, context, nowMillis) {
  const now = Math.floor(nowMillis / 1000);
  const key = event.headers["idempotency-key"];
  const attempt = sha256(key ? `idempotency-key:${key}` : `request:${context.awsRequestId}`);
  const secretHash = sha256(Buffer.from(token.sec, "base64url"));
  const client = event.requestContext.http;
  const update = new UpdateItemCommand({
    TableName: TABLE_NAME,
    Key: { pk: { S: `USER#${token.sub}` }, sk: { S: `SESSION#${token.sid}` } },
    ConditionExpression: CONDITION,
    UpdateExpression: UPDATE,
    ExpressionAttributeValues: {
      ":secret_hash": { B: secretHash },
      ":generation": { N: String(token.gen) },
      ":next": { N: String(token.gen + 1) },
      ":attempt": { B: attempt },
      ":now": { N: String(now) },
      ":now_millis": { N: String(nowMillis) },
      ":expires_at": { N: String(Math.min(now + IDLE_SECONDS, token.abs)) },
      ":ip": { S: client.sourceIp },
      ":user_agent": { S: (client.userAgent ?? "").slice(0, 256) },
    },
    ReturnValues: "ALL_NEW",
    ReturnValuesOnConditionCheckFailure: "ALL_OLD",
  });
  try {
    return (await dynamodb.send(update)).Attributes;
  } catch (error) {
    if (!(error instanceof ConditionalCheckFailedException)) throw error;
    const session = error.Item;
    // The attempt whose answer was lost gets it again.
    const isRepeated =
      session &&
      secretHash.equals(session.secret_hash.B) &&
      Number(session.expires_at.N) > now &&
      !session.revoked_at &&
      Number(session.generation.N) === token.gen + 1 &&
      session.attempt &&
      attempt.equals(session.attempt.B);
    if (!isRepeated) throw new InvalidRefreshToken();
    return session;
  }
}

function sign(typ, kid, key, claims) {
  return new SignJWT(claims).setProtectedHeader({ typ, alg: "HS256", kid }).sign(key);
}

function answer(statusCode, contentType, body) {
  const headers = { "content-type": contentType, "cache-control": "no-store" };
  return { statusCode, headers, body: JSON.stringify(body), isBase64Encoded: false };
}
