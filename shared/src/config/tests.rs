//! Every setting: its default, its range and the fault that names it.

use std::collections::HashMap;

use super::*;
use crate::client::Client;
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::session::Session;
use crate::token::{RefreshToken, Subject};

const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";

/// Parses the required variables, with these changes.
pub(crate) fn parse(changes: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut variables = HashMap::from([
        ("JWT_SECRET_KEY", SECRET),
        ("JWT_ISSUER", "https://auth.example.com"),
        ("JWT_AUDIENCE", "https://api.example.com"),
        ("TABLE_NAME", "freshkey"),
    ]);
    variables.extend(changes.iter().copied());
    Config::parse(|name| variables.get(name).map(ToString::to_string))
}

#[test]
fn what_is_not_set_has_the_default_of_the_contract() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.access_tokens.lifetime, Duration::from_secs(3600));
    assert_eq!(config.access_tokens.leeway, Duration::ZERO);
    assert_eq!(config.session_lifetime.idle, Duration::from_secs(30 * 86_400));
    assert_eq!(config.session_lifetime.absolute, Duration::from_secs(180 * 86_400));
    assert_eq!(config.reuse_interval, Duration::ZERO);
    assert_eq!(config.rotation_budget, RotationBudget { burst: 60, per_lifetime: 4 });
    assert_eq!(config.max_sessions, 50);
    assert_eq!(config.password_work, WorkFactor { memory_kib: 19_456, iterations: 2 });
    assert_eq!(config.password_min_length, 8);
    let hour = Duration::from_secs(3600);
    let guesses = Guesses { free: 5, most: 100, first_pause: Duration::from_secs(30), longest_pause: hour };
    let limits = Limits {
        guesses,
        failures_per_address: 100,
        accounts_per_address: 20,
        registrations_per_address: 20,
        mail_requests_per_address: 20,
        links_per_address: 100,
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.device_tokens.lifetime, Duration::from_secs(365 * 86_400));
    assert!(config.trusted_proxy.is_none());
    assert_eq!(config.default_roles, ["ROLE_USER"]);
    assert_eq!(config.table_endpoint, None);
    assert_eq!(config.log_level, Level::INFO);
}

#[test]
fn decimals_and_lists_are_read() {
    let config = parse(&[("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "0.1"), ("DEFAULT_ROLES", "ROLE_USER, ROLE_BETA")]);
    let config = config.unwrap();
    assert_eq!(config.access_tokens.lifetime, Duration::from_secs(6));
    assert_eq!(config.default_roles, ["ROLE_USER", "ROLE_BETA"]);
}

#[test]
fn jw13_pw9_rf5_se1_a_bad_value_is_a_fault_that_names_its_variable() {
    for (name, value) in [
        ("JWT_SECRET_KEY", ""),
        ("JWT_SECRET_KEY", "your-super-secret-key-here"),
        ("JWT_ISSUER", ""),
        ("JWT_AUDIENCE", "urn:freshkey:refresh"),
        ("JWT_AUDIENCE", "urn:freshkey:device"),
        ("JWT_AUDIENCE", "https://api.example.com/\u{7}"),
        ("JWT_ALGORITHM", "none"),
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "0"),
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "NaN"),
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "inf"),
        ("JWT_LEEWAY_SECONDS", "61"),
        ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "-1"),
        ("SESSION_ABSOLUTE_EXPIRE_DAYS", "x"),
        ("REFRESH_REUSE_INTERVAL_SECONDS", "61"),
        ("IMPORTED_TOKENS_UNTIL", "2027-03-31"),
        ("IMPORTED_TOKENS_UNTIL", "31.3.2027:k1"),
        ("IMPORTED_TOKENS_UNTIL", "2027-03-31:"),
        ("IMPORTED_TOKENS_UNTIL", "2027-03-31:k 1"),
        ("REFRESH_BURST", "0"),
        ("REFRESH_PER_LIFETIME", "1.5"),
        ("REFRESH_TOKEN_TRANSPORT", "cookies"),
        ("COOKIE_SAME_SITE", "strict"),
        ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", "https://app.example.com,https://www.example.com/"),
        ("CHECK_SESSION_ON_EVERY_CALL", "yes"),
        ("MAX_SESSIONS", "0"),
        ("LIMIT_FREE_GUESSES", "0"),
        ("LIMIT_FREE_GUESSES", "101"),
        ("LIMIT_GUESSES", "x"),
        ("LIMIT_FIRST_PAUSE_SECONDS", "0"),
        ("LIMIT_LONGEST_PAUSE_SECONDS", "86401"),
        ("LIMIT_FAILURES_PER_ADDRESS", "0"),
        ("LIMIT_ACCOUNTS_PER_ADDRESS", "1001"),
        ("LIMIT_REGISTRATIONS_PER_ADDRESS", "-1"),
        ("LIMIT_MAIL_REQUESTS_PER_ADDRESS", "0"),
        ("LIMIT_LINKS_PER_ADDRESS", "0"),
        ("MAIL_FROM", "nobody"),
        ("MAIL_FROM", "j\u{f6}rg@example.com"),
        ("MAIL_FROM", "Example <no-reply@example.com>"),
        ("REQUIRE_VERIFIED_EMAIL", "true"),
        ("NOTIFY_NEW_DEVICE", "true"),
        ("DEVICE_TOKEN_EXPIRE_DAYS", "0"),
        ("LIMIT_FIRST_PAUSE_SECONDS", "3601"),
        ("LIMIT_LONGEST_PAUSE_SECONDS", "29"),
        ("TRUSTED_PROXY_SECRET", "too short"),
        ("TRUSTED_PROXY_SECRET", "your-256-bit-secret-for-the-proxy-in-front"),
        ("TRUSTED_PROXY_SECRET", "12345678901234567890123456789012"),
        ("TRUSTED_PROXY_SECRET", "abcdefghabcdefghabcdefghabcdefgh"),
        ("TRUSTED_PROXY_SECRET", DEMO_SECRET),
        ("TRUSTED_PROXY_SECRET", "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7\u{fc}"),
        ("TRUSTED_PROXY_SECRET", "0fK3vQxw8Jd1mRzT\n6yPbLc9sHn2GuE7a"),
        ("JWT_SECRET_KEY", DEMO_SECRET),
        ("JWT_SECRET_KEY", "12345678901234567890123456789012"),
        ("DEFAULT_ROLES", &["ROLE_OF_SOME_LENGTH"; 160].join(",")),
        ("ALLOWED_ORIGINS", "https://a.example:443"),
        ("ALLOWED_ORIGINS", "https://a:99999"),
        ("TABLE_ENDPOINT", "http://"),
        ("TABLE_ENDPOINT", "http://a:99999"),
        ("TABLE_ENDPOINT", "ftp://127.0.0.1:8000"),
        ("ARGON2_MEMORY_KIB", "8"),
        ("ARGON2_ITERATIONS", "1"),
        ("PASSWORD_MIN_LENGTH", "7"),
        ("TABLE_NAME", ""),
        ("TABLE_ENDPOINT", "localhost:8000"),
        ("LOG_LEVEL", "LOUD"),
    ] {
        let fault = parse(&[(name, value)]).unwrap_err();
        assert_eq!(fault.0.len(), 1, "{fault}");
        assert!(fault.0[0].contains(name), "{fault}");
    }
}

#[test]
fn a_length_of_time_out_of_range_is_a_fault_with_one_unit_for_both_ends() {
    for (name, expected) in [
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "must be a number of minutes from 0.017 to 52560000"),
        ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "must be a number of days from 0.000012 to 36500"),
    ] {
        for value in ["0", "52560001", "x"] {
            assert_eq!(parse(&[(name, value)]).unwrap_err().0, [format!("{name} {expected}")]);
        }
    }
    // Both ends of a range are allowed.
    for (name, value) in [
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "0.017"),
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "52560000"),
        ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "0.000012"),
        ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "36500"),
    ] {
        assert!(parse(&[(name, value)]).is_ok(), "{name}={value}");
    }
}

#[test]
fn se1_the_secret_of_the_demo_is_for_a_table_on_this_machine_alone() {
    let demo = ("JWT_SECRET_KEY", DEMO_SECRET);
    for endpoint in ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"] {
        let config = parse(&[demo, ("TABLE_ENDPOINT", endpoint)]).unwrap();
        let KeySource::Given(ring) = config.keys else { panic!("{endpoint}") };
        let expected = KeyRing::demo().unwrap();
        let now = Timestamp::from_seconds(1_800_000_000);
        let (session, secret) = Session::open(UserId::random(), 0, Client::default(), now, config.session_lifetime);
        let token = RefreshToken::first(&session, secret, config.session_lifetime.absolute_end(now));
        let sign = |ring| config.refresh_tokens.sign(ring, &token).unwrap().expose_secret().to_owned();
        assert_eq!(sign(&ring), sign(&expected));
    }
    for endpoint in [
        "",
        "https://127.0.0.1:8000",
        "http://dynamodb.eu-central-1.amazonaws.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "http://10.0.0.1:8000",
    ] {
        let fault = parse(&[demo, ("TABLE_ENDPOINT", endpoint)]).unwrap_err();
        assert!(fault.0.len() == 1 && fault.0[0].starts_with("JWT_SECRET_KEY is published"), "{fault}");
    }
}

#[test]
fn jw12_roles_that_no_token_has_room_for_are_refused() {
    let config = parse(&[]).unwrap();
    let roles = |count| vec!["ROLE_OF_SOME_LENGTH".to_owned(); count];
    assert_eq!(config.check_roles(&roles(50)), Ok(()));
    let RolesTooLong { length, room } = config.check_roles(&roles(160)).unwrap_err();
    assert!(length > room && room > 2000, "{length} {room}");
}

#[test]
fn jw13_a_private_key_in_any_form_is_read_from_the_variable_and_from_a_file() {
    use base64::Engine as _;
    let pem = std::fs::read_to_string(key("p256")).unwrap();
    let encoded = base64::engine::general_purpose::STANDARD.encode(&pem);
    let indented = pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let directory = std::env::temp_dir().join(format!("freshkey-{}", UserId::random()));
    std::fs::create_dir(&directory).unwrap();
    for (at, text) in [&pem.replace('\n', " "), &pem.replace('\n', "\\n"), &indented, &encoded].into_iter().enumerate()
    {
        let path = directory.join(at.to_string());
        std::fs::write(&path, text).unwrap();
        for value in [text.as_str(), path.to_str().unwrap()] {
            let config = parse(&[("JWT_ALGORITHM", "ES256"), ("JWT_PRIVATE_KEY", value)]).unwrap();
            assert_eq!(config.algorithm, Algorithm::ES256, "{value}");
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn jw2_a_key_in_pem_as_the_secret_is_named_for_what_it_is() {
    for name in ["rsa-2048", "rsa-2048-public"] {
        let pem = std::fs::read_to_string(key(name)).unwrap();
        let fault = parse(&[("JWT_SECRET_KEY", &pem)]).unwrap_err();
        assert!(fault.0.len() == 1 && fault.0[0].starts_with("JWT_SECRET_KEY is a key in PEM"), "{fault}");
    }
}

#[test]
fn ck6_cookies_need_to_know_whose_pages_may_use_them() {
    let transport = parse(&[]).unwrap().transport;
    assert_eq!(transport, Transport { mode: Mode::Body, same_site: SameSite::Strict, allowed_origins: vec![] });
    for mode in ["cookie", "both"] {
        let fault = parse(&[("REFRESH_TOKEN_TRANSPORT", mode)]).unwrap_err();
        assert!(fault.0.len() == 1 && fault.0[0].starts_with("ALLOWED_ORIGINS is missing"), "{fault}");
    }
    let origins = ("ALLOWED_ORIGINS", "https://app.example.com, http://localhost:5173");
    let cookies = [("REFRESH_TOKEN_TRANSPORT", "cookie"), ("COOKIE_SAME_SITE", "Lax"), origins];
    let transport = parse(&cookies).unwrap().transport;
    let allowed_origins = vec!["https://app.example.com".into(), "http://localhost:5173".into()];
    assert_eq!(transport, Transport { mode: Mode::Cookie, same_site: SameSite::Lax, allowed_origins });
    assert_eq!(parse(&[("REFRESH_TOKEN_TRANSPORT", "both"), origins]).unwrap().transport.mode, Mode::Both);
}

#[test]
fn ck3_jw12_the_longest_names_that_are_taken_leave_every_token_shorter_than_a_cookie_may_be() {
    let one_too_many = "\"".repeat(MAX_PARTY + 1);
    for name in ["JWT_ISSUER", "JWT_AUDIENCE"] {
        let fault = parse(&[(name, &one_too_many)]).unwrap_err();
        assert!(fault.0.len() == 1 && fault.0[0].starts_with(&format!("{name} must be at most 256")), "{fault}");
    }
    // Each of these bytes takes two in JSON.
    let longest = &one_too_many[1..];
    let config = parse(&[("JWT_ISSUER", longest), ("JWT_AUDIENCE", longest)]).unwrap();
    let kid = "k".repeat(64);
    let secret = serde_json::json!({ "signing": kid, "refresh": kid, (kid.as_str()): SECRET });
    let keys = KeyRing::parse(&secret.to_string().into()).unwrap();
    let now = Timestamp::from_seconds(1_800_000_000);
    let user = UserId::random();
    let (session, secret) = Session::open(user, 0, Client::default(), now, config.session_lifetime);
    let mut refresh = RefreshToken::first(&session, secret, config.session_lifetime.absolute_end(now));
    refresh.generation = (1 << 53) - 1;
    let refresh = config.refresh_tokens.sign(&keys, &refresh).unwrap();
    assert!(config.refresh_tokens.verify(&keys, refresh.expose_secret(), now).is_ok());
    let device = config.device_tokens.issue(&keys, user, now, now).unwrap();
    let subject =
        Subject { user_id: user, session_id: session.id, roles: &config.default_roles, email_verified: Some(false) };
    let end = config.session_lifetime.absolute_end(now);
    let access = config.access_tokens.issue(&keys, &subject, end, now).unwrap().token;
    assert!(config.access_tokens.verify(&keys, access.expose_secret(), now).is_ok());
    for token in [refresh, device, access] {
        let length = token.expose_secret().len();
        // This leaves room for the name of a cookie and for roles.
        assert!((1000..3000).contains(&length), "{length}");
    }
}

#[test]
fn pw9_the_fault_of_a_weak_work_factor_names_every_one_that_is_strong_enough() {
    let fault = parse(&[("ARGON2_ITERATIONS", "1")]).unwrap_err();
    assert_eq!(
        fault.0,
        ["ARGON2_MEMORY_KIB and ARGON2_ITERATIONS must be at least 47104 and 1 or 19456 and 2 or 12288 and 3 or \
          9216 and 4 or 7168 and 5 (OWASP's minimum), and at most 131072 and 16"]
    );
}

#[test]
fn faults_of_the_private_key_are_reported_beside_those_of_the_secret() {
    for secret in ["short", "", "your-super-secret-key-here"] {
        for private_key in ["", "nowhere", &key("p256"), &key("rsa-1024"), &key("rsa-2048-aes256-sha256")] {
            let variables = [("JWT_SECRET_KEY", secret), ("JWT_ALGORITHM", "RS256"), ("JWT_PRIVATE_KEY", private_key)];
            let fault = parse(&variables).unwrap_err();
            let [first, second] = &fault.0[..] else { panic!("{fault}") };
            assert!(first.starts_with("JWT_SECRET_KEY "), "{fault}");
            assert!(second.starts_with("JWT_PRIVATE_KEY "), "{fault}");
        }
    }
    let good = [("JWT_SECRET_KEY", ""), ("JWT_ALGORITHM", "ES256"), ("JWT_PRIVATE_KEY", &key("p256"))];
    let fault = parse(&good).unwrap_err();
    assert!(fault.0.len() == 1 && fault.0[0].starts_with("JWT_SECRET_KEY is missing"), "{fault}");
}

#[test]
fn all_faults_are_reported_together_and_show_no_secret() {
    let secret = "hunter2hunter2";
    let faults = parse(&[("JWT_SECRET_KEY", secret), ("JWT_ISSUER", ""), ("LOG_LEVEL", "LOUD")]).unwrap_err();
    let text = faults.to_string();
    for name in ["JWT_SECRET_KEY", "JWT_ISSUER", "LOG_LEVEL"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains(secret), "{text}");
}

/// The path of a key in `token/testdata`.
fn key(name: &str) -> String {
    format!("{}/src/token/testdata/{name}.pem", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn jw1_jw13_the_private_key_is_one_for_the_algorithm() {
    let rsa = std::fs::read_to_string(key("rsa-2048")).unwrap();
    for (algorithm, private_key, passphrase) in [
        ("RS256", rsa.clone(), ""),
        ("RS256", rsa.replace('\n', "\\n"), ""),
        ("RS256", key("rsa-2048"), "for nothing"),
        ("RS256", key("rsa-2048-aes256-sha256"), "a-passphrase-for-tests-only"),
        ("ES256", key("p256"), ""),
        ("EdDSA", key("ed25519"), ""),
    ] {
        let variables =
            [("JWT_ALGORITHM", algorithm), ("JWT_PRIVATE_KEY", &private_key), ("JWT_PASSPHRASE", passphrase)];
        let config = parse(&variables).unwrap();
        assert_eq!(format!("{:?}", config.algorithm), algorithm);
        let KeySource::Given(keys) = config.keys else { panic!("{algorithm}") };
        assert_eq!(keys.public().keys.len(), 1, "{algorithm}");
    }
    let arn = ("JWT_SECRET_ARN", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:freshkey");
    for (algorithm, private_key, changes) in [
        ("RS256", "", vec![]),
        ("HS256", key("rsa-2048").as_str(), vec![]),
        ("ES256", &key("rsa-2048"), vec![]),
        ("RS256", &key("rsa-2048-aes256-sha256"), vec![]),
        ("RS256", &key("rsa-2048-aes256-sha256"), vec![("JWT_PASSPHRASE", "wrong")]),
        ("RS256", &key("rsa-1024"), vec![]),
        ("ES256", &key("p384"), vec![]),
        ("RS256", &key("nowhere"), vec![]),
        ("RS256", &rsa[..100], vec![]),
        ("RS256", &key("rsa-2048"), vec![("JWT_SECRET_KEY", ""), arn]),
    ] {
        let variables = [("JWT_ALGORITHM", algorithm), ("JWT_PRIVATE_KEY", private_key)];
        let fault = parse(&[&variables[..], &changes].concat()).unwrap_err();
        assert!(fault.0.len() == 1 && fault.0[0].starts_with("JWT_PRIVATE_KEY"), "{fault}");
        assert!(!fault.to_string().contains("MII"), "{fault}");
    }
    assert_eq!(parse(&[("JWT_ALGORITHM", "RS256"), ("JWT_SECRET_KEY", ""), arn]).unwrap().algorithm, Algorithm::RS256);
}

#[test]
fn an_empty_secret_means_unset_and_a_given_one_goes_first() {
    let arn = ("JWT_SECRET_ARN", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:freshkey");
    assert!(matches!(parse(&[arn]).unwrap().keys, KeySource::Given(_)));
    assert!(matches!(parse(&[("JWT_SECRET_KEY", ""), arn]).unwrap().keys, KeySource::Secret(_)));
}
