//! Keys: of every algorithm, published, rotated, and out of reach; and the
//! authorizer, which needs only keys.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lambda_runtime::Context;
use serde_json::{Value, json};

use crate::wire::{Fate, Wire};
use crate::world::{EMAIL, PASSWORD, User, World, claims, signed_up, signed_up_with, world_over, world_with};

const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
const OTHER: &str = "Zq8LmW4tYc0RbXnV5sKe2HgJd7UfPa1o";
const ARN: (&str, &str) = ("JWT_SECRET_ARN", "arn:aws:secretsmanager:local:123456789012:secret:freshkey");
const RS256: (&str, &str) = ("JWT_ALGORITHM", "RS256");
const ME: &str = "/api/v1/users/me";
const JWKS: &str = "/.well-known/jwks.json";
const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

fn path(key: &str) -> String {
    format!("{}/../shared/src/token/testdata/{key}.pem", env!("CARGO_MANIFEST_DIR"))
}

fn pem(key: &str) -> String {
    std::fs::read_to_string(path(key)).unwrap()
}

/// The header of a token, unverified.
fn header(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap()
}

/// Whether a service that has only the JWKS accepts an access token.
fn is_good_by(jwks: &str, token: &str) -> bool {
    let keys: JwkSet = serde_json::from_str(jwks).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let key = keys.find(header.kid.as_ref().unwrap()).unwrap();
    assert_eq!(key.common.key_algorithm.unwrap().to_string(), format!("{:?}", header.alg));
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.set_audience(&["freshkey"]);
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).is_ok()
}

async fn status_of_me(world: &World, token: &str) -> StatusCode {
    world.get(ME).bearer(token).await.status
}

/// How often the secret was read since this was last asked.
fn reads(world: &World) -> usize {
    world.wire.take().calls.iter().filter(|call| call.operation == "GetSecretValue").count()
}

/// A system whose keys are in Secrets Manager.
async fn world_with_secret(secret: Value, variables: &[(&str, &str)]) -> World {
    let wire = Wire::new();
    wire.set_secret(secret);
    world_over(wire, &[variables, &[ARN]].concat()).await
}

fn one_secret() -> Value {
    json!({ "signing": "k1", "refresh": "k1", "k1": SECRET })
}

#[tokio::test]
async fn jw1_jw14_access_tokens_of_every_algorithm_are_verified_by_the_published_keys() {
    let one_line = pem("p256").replace('\n', "\\n");
    for (algorithm, key, passphrase) in [
        ("RS256", path("rsa-2048"), ""),
        ("RS256", path("rsa-2048-des3-sha256"), "a-passphrase-for-tests-only"),
        ("ES256", pem("p256"), ""),
        ("ES256", one_line, ""),
        ("EdDSA", path("ed25519"), ""),
    ] {
        let key = [("JWT_PRIVATE_KEY", key.as_str()), ("JWT_PASSPHRASE", passphrase), ("JWT_SECRET_KEY", SECRET)];
        let (world, alice) = signed_up_with(&[&key[..], &[("JWT_ALGORITHM", algorithm)]].concat()).await;
        let jwks = world.get(JWKS).await.expect(StatusCode::OK);
        assert_eq!(header(&alice.access_token)["alg"], algorithm);
        assert_eq!(header(&alice.access_token)["kid"], jwks.json()["keys"][0]["kid"]);
        assert!(is_good_by(&jwks.text, &alice.access_token));
        assert_eq!(status_of_me(&world, &alice.access_token).await, StatusCode::OK);

        let refresh = header(&alice.refresh_token);
        assert_eq!(refresh, json!({ "alg": "HS256", "typ": "rt+jwt", "kid": "k1" }), "{algorithm}");
        let next = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("access_token");
        assert!(is_good_by(&jwks.text, &next));
        for secret in ["\"d\"", "\"p\"", "\"q\"", "\"k\"", SECRET] {
            assert!(!jwks.text.contains(secret), "{}", jwks.text);
        }
    }
}

#[tokio::test]
async fn jw14_under_hs256_no_key_is_published() {
    let (world, alice) = signed_up().await;
    assert_eq!(header(&alice.access_token)["alg"], "HS256");
    assert_eq!(world.get(JWKS).await.expect(StatusCode::OK).json(), json!({ "keys": [] }));
}

#[tokio::test]
async fn the_well_known_documents_are_cacheable_and_say_where_the_keys_are() {
    for (issuer, jwks_uri) in [
        ("https://auth.example.com", "https://auth.example.com/.well-known/jwks.json"),
        ("https://example.com/auth/", "https://example.com/auth/.well-known/jwks.json"),
    ] {
        let key =
            [("JWT_PRIVATE_KEY", path("rsa-2048")), ("JWT_ISSUER", issuer.into()), ("JWT_SECRET_KEY", SECRET.into())];
        let variables: Vec<_> = key.iter().map(|(name, value)| (*name, value.as_str())).chain([RS256]).collect();
        let world = world_with(&variables).await;
        let document = world.get("/.well-known/openid-configuration").await.expect(StatusCode::OK);
        let body = document.json();
        assert_eq!(body["issuer"], issuer);
        assert_eq!(body["jwks_uri"], jwks_uri);
        assert_eq!(body["id_token_signing_alg_values_supported"], json!(["RS256"]));
        for reply in [document, world.get(JWKS).await] {
            assert_eq!(reply.headers["cache-control"], "public, max-age=300");
            assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8");
            assert_eq!(reply.headers["x-content-type-options"], "nosniff");
        }
        assert!(world.wire.take().calls.is_empty());
    }
}

#[tokio::test]
async fn jw1_jw2_jw3_jw4_jw5_jw6_jw8_jw10_jw11_attacks_on_an_rs256_token_are_each_a_401() {
    let key = path("rsa-2048");
    let (world, alice) = signed_up_with(&[RS256, ("JWT_SECRET_KEY", SECRET), ("JWT_PRIVATE_KEY", &key)]).await;
    let good = header(&alice.access_token);
    let jwk = world.get(JWKS).await.json()["keys"][0].clone();
    let said = claims(&alice.access_token);

    let pkcs1 = pem("rsa-2048-pkcs1");
    let der: String = pkcs1.lines().filter(|line| !line.starts_with('-')).collect();
    let private = EncodingKey::from_rsa_der(&STANDARD.decode(der).unwrap());
    let sign = |header: &str, claims: &str, key: &EncodingKey, algorithm| {
        let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
        format!("{message}.{signature}")
    };
    let authentic = |header: &Value, claims: &str| sign(&header.to_string(), claims, &private, Algorithm::RS256);
    let with = |name: &str, value: Value| {
        let mut header = good.clone();
        header[name] = value;
        header
    };
    let text = said.to_string();
    assert_eq!(status_of_me(&world, &authentic(&good, &text)).await, StatusCode::OK);

    let public = pem("rsa-2048-public");
    let confused = with("alg", "HS256".into()).to_string();
    let mut attacks = vec![
        (
            "none",
            format!(
                "{}.{}.",
                URL_SAFE_NO_PAD.encode(with("alg", "none".into()).to_string()),
                URL_SAFE_NO_PAD.encode(&text)
            ),
        ),
        ("none, signed", authentic(&with("alg", "none".into()), &text)),
        ("kid injection", authentic(&with("kid", "../../dev/null".into()), &text)),
        ("kid of the secret", authentic(&with("kid", "k1".into()), &text)),
        ("embedded jwk", authentic(&with("jwk", jwk.clone()), &text)),
        ("jku", authentic(&with("jku", "https://evil.example/jwks.json".into()), &text)),
        ("crit", authentic(&with("crit", json!(["exp"])), &text)),
        ("duplicate member", authentic(&good, &text.replacen('{', r#"{"sub":"someone","#, 1))),
        (
            "duplicate header",
            sign(&good.to_string().replacen('{', r#"{"alg":"RS256","#, 1), &text, &private, Algorithm::RS256),
        ),
        ("padding", format!("{}==", alice.access_token)),
        ("token of the other kind", alice.refresh_token.clone()),
        ("the other kind, signed", authentic(&with("typ", "rt+jwt".into()), &text)),
    ];
    for (name, secret) in [("PEM", public.clone()), ("trimmed PEM", public.trim().into()), ("JWK", jwk.to_string())] {
        attacks.push((name, sign(&confused, &text, &EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256)));
    }
    for (name, exp) in
        [("exp text", json!("9999999999")), ("exp null", Value::Null), ("exp list", json!([9_999_999_999_i64]))]
    {
        let mut claims = said.clone();
        claims["exp"] = exp;
        attacks.push((name, authentic(&good, &claims.to_string())));
    }
    let (head, last) = alice.access_token.split_at(alice.access_token.len() - 1);
    attacks.push(("trailing bits", format!("{head}{}", char::from(last.as_bytes()[0] + 1))));
    world.wire.take();
    for (name, token) in attacks {
        let reply = world.get(ME).bearer(&token).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(reply.error(), "invalid_token", "{name}");
    }
    assert!(world.wire.take().calls.is_empty());
}

#[tokio::test]
async fn jw15_se4_a_session_outlives_a_rotation_of_every_key() {
    let mut secret = json!({ "signing": "a1", "refresh": "s1", "a1": pem("rsa-2048"), "s1": SECRET });
    let warm = world_with_secret(secret.clone(), &[RS256]).await;
    let alice = warm.register(EMAIL).await;
    assert_eq!(
        (header(&alice.access_token)["kid"].clone(), header(&alice.refresh_token)["kid"].clone()),
        ("a1".into(), "s1".into())
    );

    // The new keys are added, and published before one of them signs.
    secret["a2"] = pem("rsa-3072").into();
    secret["s2"] = OTHER.into();
    warm.wire.set_secret(secret.clone());
    warm.pass(10 * MINUTE);
    warm.login(PASSWORD).await.expect(StatusCode::OK);
    let published = warm.get(JWKS).await;
    let kids: Vec<_> = published.json()["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(kids, ["a1", "a2"]);
    assert!(is_good_by(&published.text, &alice.access_token));

    // The new keys begin to sign: functions that start now sign with them, and warm
    // functions verify those tokens once they have read the secret again.
    secret["signing"] = "a2".into();
    secret["refresh"] = "s2".into();
    let wire = Wire::new();
    wire.set_secret(secret.clone());
    warm.wire.set_secret(secret.clone());
    let cold = warm.beside_over(wire, &[RS256, ARN]).await;
    let tokens = cold.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    let (access, refresh) = (tokens.text("access_token"), tokens.text("refresh_token"));
    assert_eq!((header(&access)["kid"].clone(), header(&refresh)["kid"].clone()), ("a2".into(), "s2".into()));
    assert!(is_good_by(&published.text, &access));
    for world in [&cold, &warm] {
        assert_eq!(status_of_me(world, &access).await, StatusCode::OK);
        assert_eq!(status_of_me(world, &alice.access_token).await, StatusCode::OK);
    }
    // A function whose copy is less than five minutes old still signs with the old keys.
    let login = warm.login(PASSWORD).await.user();
    assert_eq!(header(&login.access_token)["kid"], "a1");
    assert_eq!(status_of_me(&cold, &login.access_token).await, StatusCode::OK);
    let refresh = warm.refresh(&refresh).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(header(&refresh)["kid"], "s2");
    let old = cold.refresh(&login.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(header(&old)["kid"], "s2");

    // After the idle lifetime no refresh token of the old key is left, and the old
    // keys are taken out.
    let mut refresh = refresh;
    for _ in 0..31 {
        cold.pass(DAY);
        refresh = cold.refresh(&refresh).await.expect(StatusCode::OK).text("refresh_token");
    }
    warm.pass(31 * DAY);
    // This function does not know the new keys, because it cannot read the secret.
    warm.wire.fault("GetSecretValue", usize::MAX, Fate::Lost);
    let forgotten = warm.login(PASSWORD).await.user();
    secret.as_object_mut().unwrap().retain(|name, _| !["a1", "s1"].contains(&name.as_str()));
    let wire = Wire::new();
    wire.set_secret(secret);
    let after = cold.beside_over(wire, &[RS256, ARN]).await;
    assert_eq!(header(&forgotten.access_token)["kid"], "a1");
    assert_eq!(status_of_me(&after, &forgotten.access_token).await, StatusCode::UNAUTHORIZED);
    let tokens = after.refresh(&refresh).await.expect(StatusCode::OK);
    assert_eq!(status_of_me(&after, &tokens.text("access_token")).await, StatusCode::OK);
    assert_eq!(claims(&tokens.text("refresh_token"))["sid"], claims(&alice.refresh_token)["sid"]);
    assert_eq!(after.get(JWKS).await.json()["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn jw4_jw15_a_token_of_an_unknown_key_has_the_secret_read_again_once_in_five_minutes() {
    let world = world_with_secret(one_secret(), &[]).await;
    world.register(EMAIL).await;
    let unknown = forged("k2");
    world.wire.take();
    for (minutes, expected) in [(0, 0), (5, 0), (1, 1), (4, 0), (2, 1)] {
        world.pass(minutes * MINUTE);
        for _ in 0..20 {
            assert_eq!(status_of_me(&world, &unknown).await, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(reads(&world), expected, "{minutes} minutes later");
    }
    world.pass(10 * MINUTE);
    let crowd = (0..20).map(|_| status_of_me(&world, &unknown));
    let crowd = futures_util::future::join_all(crowd).await;
    assert!(crowd.into_iter().all(|status| status == StatusCode::UNAUTHORIZED));
    assert_eq!(reads(&world), 1);
}

/// An access token that names this key and is signed by another.
fn forged(kid: &str) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some("at+jwt".into());
    header.kid = Some(kid.into());
    jsonwebtoken::encode(&header, &json!({}), &EncodingKey::from_secret(OTHER.as_bytes())).unwrap()
}

#[tokio::test]
async fn jw15_er3_while_the_secret_cannot_be_read_a_token_of_an_unknown_key_is_a_503() {
    let world = world_with_secret(one_secret(), &[]).await;
    let alice = world.register(EMAIL).await;
    let mut secret = one_secret();
    secret["k2"] = OTHER.into();
    secret["signing"] = "k2".into();
    secret["refresh"] = "k2".into();
    let wire = Wire::new();
    wire.set_secret(secret.clone());
    let cold = world.beside_over(wire, &[ARN]).await;
    let next = cold.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    let (access, refresh) = (next.text("access_token"), next.text("refresh_token"));

    world.pass(6 * MINUTE);
    world.wire.fault("GetSecretValue", usize::MAX, Fate::Refused(500, "InternalServiceError"));
    let reply = world.get(ME).bearer(&access).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (reply.error().as_str(), &reply.headers["retry-after"]),
        ("temporarily_unavailable", &"5".parse().unwrap())
    );
    world.refresh(&refresh).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    let body = json!({ "refresh_token": refresh });
    world.post("/api/v1/auth/logout", body).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status_of_me(&world, &alice.access_token).await, StatusCode::OK);
    assert_eq!(world.get(JWKS).await.status, StatusCode::OK);

    world.wire.heal();
    world.wire.set_secret(json!({ "signing": "k1" }));
    world.pass(5);
    assert_eq!(status_of_me(&world, &access).await, StatusCode::SERVICE_UNAVAILABLE);
    world.wire.set_secret(secret);
    world.pass(5);
    assert_eq!(status_of_me(&world, &access).await, StatusCode::OK);
    world.refresh(&refresh).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn jw4_jw15_while_the_secret_cannot_be_read_it_is_asked_for_once_in_five_seconds() {
    let world = world_with_secret(one_secret(), &[]).await;
    let alice = world.register(EMAIL).await;
    let unknown = forged("k2");
    world.pass(6 * MINUTE);
    // Each read fails at once, and the SDK does not repeat it.
    world.wire.fault("GetSecretValue", usize::MAX, Fate::Refused(400, "AccessDeniedException"));
    world.wire.take();
    for (seconds, expected) in [(0, 1), (4, 0), (1, 1), (3, 0), (2, 1)] {
        world.pass(seconds);
        let crowd = (0..20).map(|_| status_of_me(&world, &unknown));
        let crowd = futures_util::future::join_all(crowd).await;
        assert!(crowd.into_iter().all(|status| status == StatusCode::SERVICE_UNAVAILABLE));
        // The keys of the last copy still work.
        assert_eq!(status_of_me(&world, &alice.access_token).await, StatusCode::OK);
        assert_eq!(reads(&world), expected, "{seconds} seconds later");
    }
    world.wire.heal();
    assert_eq!(status_of_me(&world, &unknown).await, StatusCode::SERVICE_UNAVAILABLE);
    world.pass(5);
    assert_eq!(status_of_me(&world, &unknown).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn se6_without_a_secret_from_the_start_every_route_is_a_503_until_there_is_one() {
    let world = world_over(Wire::new(), &[ARN]).await;
    let body = json!({ "email": EMAIL, "password": PASSWORD });
    let routes = [
        (Method::POST, "/api/v1/auth/register"),
        (Method::POST, "/api/v1/auth/login"),
        (Method::POST, "/api/v1/auth/refresh"),
        (Method::POST, "/api/v1/auth/logout"),
        (Method::GET, ME),
        (Method::GET, JWKS),
    ];
    for (method, path) in routes {
        let mut body = body.clone();
        body["refresh_token"] = "x".into();
        let request = world.request(method, path).json(body).bearer("x");
        let reply = request.await.expect(StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.headers.contains_key("retry-after"), "{path}");
        assert_eq!(reply.headers["cache-control"], "no-store", "{path}");
    }
    world.wire.set_secret(one_secret());
    world.pass(5);
    let alice = world.register(EMAIL).await;
    assert_eq!(status_of_me(&world, &alice.access_token).await, StatusCode::OK);
    assert_eq!(world.get(JWKS).await.status, StatusCode::OK);
}

#[tokio::test]
async fn jw1_a_secret_that_signs_by_another_algorithm_than_the_settings_say_is_not_used() {
    let secret = json!({ "signing": "a1", "refresh": "s1", "a1": pem("rsa-2048"), "s1": SECRET });
    let world = world_with_secret(secret, &[("JWT_ALGORITHM", "ES256")]).await;
    world.login(PASSWORD).await.expect(StatusCode::SERVICE_UNAVAILABLE);
}

/// The event that API Gateway sends to an authorizer (payload format 2.0).
fn question(token: Option<&str>, path: &str) -> Value {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut event = json!({
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": format!("arn:aws:execute-api:us-east-1:123456789012:abcdef123/$default/GET{path}"),
        "identitySource": authorization.iter().collect::<Vec<_>>(),
        "routeKey": format!("GET {path}"),
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "host": "api.example.com" },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdef123",
            "domainName": "abcdef123.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "abcdef123",
            "http": {
                "method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl/8.5.0",
            },
            "requestId": "id",
            "routeKey": format!("GET {path}"),
            "stage": "$default",
            "time": "21/Nov/2026:17:57:35 +0000",
            "timeEpoch": 1_795_283_855_000_u64,
        },
        "pathParameters": { "proxy": "x" },
        "stageVariables": { "x": "y" },
    });
    if let Some(authorization) = authorization {
        event["headers"]["authorization"] = authorization.into();
    }
    event
}

async fn ask(world: &World, event: &str) -> Value {
    world.system.function("authorizer").unwrap().invoke(event, Context::default()).await
}

pub async fn is_let_in(world: &World, token: &str) -> bool {
    ask(world, &question(Some(token), "/anything").to_string()).await["isAuthorized"] == true
}

#[tokio::test]
async fn re10_the_authorizer_says_who_calls_whatever_the_route() {
    let (world, alice) = signed_up().await;
    let User { id, access_token, .. } = &alice;
    let context = json!({ "sub": id, "sid": claims(access_token)["sid"], "roles": ["ROLE_USER"] });
    for path in ["/", "/orders", "/orders/{id}", "/api/v1/auth/login", "/api/auth"] {
        let answer = ask(&world, &question(Some(access_token), path).to_string()).await;
        assert_eq!(answer, json!({ "isAuthorized": true, "context": context }), "{path}");
    }
    assert!(world.wire.take().calls.is_empty());
}

#[tokio::test]
async fn re9_whatever_is_wrong_the_authorizer_lets_nobody_in() {
    let (world, alice) = signed_up_with(&[("CHECK_SESSION_ON_EVERY_CALL", "true")]).await;
    assert!(is_let_in(&world, &alice.access_token).await);
    let mut broken = vec![String::new(), "x".into(), "[]".into(), "{}".into(), "null".into(), "1".into()];
    let forged = forged("k1");
    for token in [None, Some(""), Some("x"), Some(alice.refresh_token.as_str()), Some(forged.as_str())] {
        broken.push(question(token, "/").to_string());
    }
    for (name, value) in [
        ("version", json!("1.0")),
        ("headers", json!({ "authorization": format!("Basic {}", alice.access_token) })),
        ("headers", json!({ "authorization": format!("Bearer {0}, Bearer {0}", alice.access_token) })),
        ("headers", json!([])),
        ("rawPath", json!(1)),
        ("requestContext", json!(null)),
    ] {
        let mut event = question(Some(&alice.access_token), "/");
        event[name] = value;
        broken.push(event.to_string());
    }
    for event in broken {
        assert_eq!(ask(&world, &event).await, json!({ "isAuthorized": false }), "{event}");
    }
    world.wire.fault("GetItem", usize::MAX, Fate::Refused(500, "InternalServerError"));
    assert!(!is_let_in(&world, &alice.access_token).await);
    world.wire.heal();
    assert!(is_let_in(&world, &alice.access_token).await);
    world.pass(61 * MINUTE);
    assert!(!is_let_in(&world, &alice.access_token).await);
}

#[tokio::test]
async fn jw18_the_authorizer_sees_that_a_session_has_ended_where_it_is_told_to_look() {
    for (check, is_seen) in [("true", true), ("false", false)] {
        let (world, alice) = signed_up_with(&[("CHECK_SESSION_ON_EVERY_CALL", check)]).await;
        let body = json!({ "refresh_token": alice.refresh_token });
        world.post("/api/v1/auth/logout", body).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(is_let_in(&world, &alice.access_token).await, !is_seen, "{check}");
    }
}

#[tokio::test]
async fn se6_an_authorizer_without_keys_lets_nobody_in() {
    let (_, alice) = signed_up_with(&[("JWT_SECRET_KEY", SECRET)]).await;
    let world = world_over(Wire::new(), &[ARN]).await;
    assert!(!is_let_in(&world, &alice.access_token).await);
    world.wire.set_secret(one_secret());
    world.pass(5);
    assert!(is_let_in(&world, &alice.access_token).await);
}
