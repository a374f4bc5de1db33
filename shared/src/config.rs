//! Settings: environment variables, read once, every fault reported.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tracing::Level;

use crate::limit::{Guesses, Limits};
use crate::password::WorkFactor;
use crate::session::Lifetime;
use crate::token::{AccessTokens, Algorithm, DeviceTokens, KeyRing, RefreshTokens, device, is_pem, refresh, ring};
use crate::transport::{Mode, SameSite, Transport, is_origin};

const MINUTE: f64 = 60.0;
const DAY: f64 = 24.0 * 60.0 * 60.0;
/// A century: what "never" comes to, and still a date.
const LONGEST: f64 = 36_500.0 * DAY;
/// The most bytes of JWT_ISSUER and of JWT_AUDIENCE.
const MAX_PARTY: usize = 256;

/// Everything that can be set, parsed.
#[derive(Debug)]
pub struct Config {
    /// JWT_SECRET_KEY with JWT_PRIVATE_KEY and JWT_PASSPHRASE, or JWT_SECRET_ARN.
    pub keys: KeySource,
    /// JWT_ALGORITHM: of access tokens, and of the key that signs them.
    pub algorithm: Algorithm,
    /// JWT_ISSUER, JWT_AUDIENCE, JWT_ACCESS_TOKEN_EXPIRE_MINUTES and JWT_LEEWAY_SECONDS.
    pub access_tokens: AccessTokens,
    /// JWT_ISSUER.
    pub refresh_tokens: RefreshTokens,
    /// JWT_REFRESH_TOKEN_EXPIRE_DAYS and SESSION_ABSOLUTE_EXPIRE_DAYS.
    pub session_lifetime: Lifetime,
    /// REFRESH_REUSE_INTERVAL_SECONDS.
    pub reuse_interval: Duration,
    /// REFRESH_BURST and REFRESH_PER_LIFETIME.
    pub rotation_budget: RotationBudget,
    /// MAX_SESSIONS, per user.
    pub max_sessions: usize,
    /// ARGON2_MEMORY_KIB and ARGON2_ITERATIONS.
    pub password_work: WorkFactor,
    /// PASSWORD_MIN_LENGTH, in code points.
    pub password_min_length: usize,
    /// DEFAULT_ROLES: what register gives, separated by commas.
    pub default_roles: Vec<String>,
    /// CHECK_SESSION_ON_EVERY_CALL: whether every access token costs a look at
    /// session and user, so that what ends a session ends it at once.
    pub check_session_on_every_call: bool,
    /// REFRESH_TOKEN_TRANSPORT, COOKIE_SAME_SITE and ALLOWED_ORIGINS.
    pub transport: Transport,
    /// The LIMIT_ variables: how often what may be tried.
    pub limits: Limits,
    /// JWT_ISSUER and DEVICE_TOKEN_EXPIRE_DAYS.
    pub device_tokens: DeviceTokens,
    /// TRUSTED_PROXY_SECRET: what the proxy in front proves itself by.
    pub trusted_proxy: Option<TrustedProxy>,
    /// TABLE_NAME.
    pub table_name: String,
    /// TABLE_ENDPOINT: another DynamoDB than the region's.
    pub table_endpoint: Option<String>,
    /// LOG_LEVEL.
    pub log_level: Level,
}

/// Where the keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// JWT_SECRET_KEY and JWT_PRIVATE_KEY: at hand.
    Given(Arc<KeyRing>),
    /// JWT_SECRET_ARN: a secret in Secrets Manager.
    Secret(String),
}

/// How many rotations a session may make. A client that follows the rules makes
/// one per access-token lifetime; one that loops is stopped before it costs money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationBudget {
    /// At once.
    pub burst: u64,
    /// More for each access-token lifetime since the login.
    pub per_lifetime: u64,
}

/// A proxy in front of the API, whose word for a client's address is taken.
/// Whatever does not know the secret comes from where it seems to come from.
#[derive(Clone, Debug)]
pub struct TrustedProxy {
    /// What it sends along with each request.
    pub secret: SecretString,
}

/// Every fault of the environment, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads every setting through `lookup`, which gives a variable's value. An
    /// empty value counts as none.
    ///
    /// # Errors
    ///
    /// All faults together, each naming its variable and what it expects, and
    /// none showing the value of a secret.
    pub fn parse(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reader = Reader { lookup, faults: Vec::new() };
        let algorithm = reader.choice("JWT_ALGORITHM", Algorithm::HS256, ring::ALGORITHMS);
        let keys = reader.keys(algorithm);
        let issuer = reader.party("JWT_ISSUER", "who issues the tokens, such as https://auth.example.com");
        let audience = reader.party("JWT_AUDIENCE", "who the access tokens are for, such as https://api.example.com");
        if [refresh::AUDIENCE, device::AUDIENCE].contains(&audience.as_str()) {
            reader
                .fault("JWT_AUDIENCE", format_args!("must not be {audience:?}, the audience of another kind of token"));
        }
        let lifetime = reader.duration("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", 60.0, MINUTE);
        let session_lifetime = Lifetime {
            idle: reader.duration("JWT_REFRESH_TOKEN_EXPIRE_DAYS", 30.0, DAY),
            absolute: reader.duration("SESSION_ABSOLUTE_EXPIRE_DAYS", 180.0, DAY),
        };
        let password_work = WorkFactor {
            memory_kib: reader.number("ARGON2_MEMORY_KIB", 19_456, 1..=u32::MAX.into()) as u32,
            iterations: reader.number("ARGON2_ITERATIONS", 2, 1..=u32::MAX.into()) as u32,
        };
        if !password_work.is_allowed() {
            let pair = |work: WorkFactor| format!("{} and {}", work.memory_kib, work.iterations);
            let minimum = WorkFactor::MINIMUM.map(pair);
            reader.fault(
                "ARGON2_MEMORY_KIB and ARGON2_ITERATIONS",
                format_args!(
                    "must be at least {} (OWASP's minimum), and at most {}",
                    minimum.join(" or "),
                    pair(WorkFactor::MAXIMUM)
                ),
            );
        }
        let config = Self {
            keys,
            algorithm,
            access_tokens: AccessTokens {
                issuer: issuer.clone(),
                audience,
                lifetime,
                leeway: Duration::from_secs(reader.number("JWT_LEEWAY_SECONDS", 0, 0..=60)),
            },
            refresh_tokens: RefreshTokens { issuer: issuer.clone() },
            session_lifetime,
            reuse_interval: Duration::from_secs(reader.number("REFRESH_REUSE_INTERVAL_SECONDS", 0, 0..=60)),
            rotation_budget: RotationBudget {
                burst: reader.number("REFRESH_BURST", 60, 1..=1_000_000_000),
                per_lifetime: reader.number("REFRESH_PER_LIFETIME", 4, 1..=1_000_000_000),
            },
            max_sessions: reader.number("MAX_SESSIONS", 50, 1..=1000) as usize,
            password_work,
            password_min_length: reader.number("PASSWORD_MIN_LENGTH", 8, 8..=64) as usize,
            default_roles: reader.list("DEFAULT_ROLES", "ROLE_USER"),
            check_session_on_every_call: reader.flag("CHECK_SESSION_ON_EVERY_CALL"),
            transport: reader.transport(),
            limits: reader.limits(),
            device_tokens: DeviceTokens { issuer, lifetime: reader.duration("DEVICE_TOKEN_EXPIRE_DAYS", 365.0, DAY) },
            trusted_proxy: reader.trusted_proxy(),
            table_name: reader.required("TABLE_NAME", "the name of the DynamoDB table"),
            table_endpoint: reader.url("TABLE_ENDPOINT"),
            log_level: reader.log_level(),
        };
        if reader.faults.is_empty() { Ok(config) } else { Err(ConfigError(reader.faults)) }
    }
}

struct Reader<F> {
    lookup: F,
    faults: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// A secret is taken as it is, white space at its ends included.
    fn secret(&self, name: &str) -> Option<SecretString> {
        (self.lookup)(name).filter(|value| !value.trim().is_empty()).map(SecretString::from)
    }

    fn fault(&mut self, name: &str, expects: impl fmt::Display) {
        self.faults.push(format!("{name} {expects}"));
    }

    fn required(&mut self, name: &str, expects: &str) -> String {
        self.get(name).unwrap_or_else(|| {
            self.fault(name, format_args!("is missing: {expects}"));
            String::new()
        })
    }

    /// The name of a party, which stands in every token. However it is spelled,
    /// it leaves room for the rest of one, so that no token is too long for its
    /// cookie, or for us.
    fn party(&mut self, name: &str, expects: &str) -> String {
        let party = self.required(name, expects);
        if party.len() > MAX_PARTY || party.contains(char::is_control) {
            self.fault(name, format_args!("must be at most {MAX_PARTY} bytes, without control characters"));
        }
        party
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Option<Result<T, String>> {
        self.get(name).map(|value| value.parse().map_err(|_| value))
    }

    fn number(&mut self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        match self.parsed::<u64>(name) {
            None => default,
            Some(Ok(number)) if range.contains(&number) => number,
            Some(_) => {
                self.fault(name, format_args!("must be a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    /// Decimals are allowed; what comes out is whole seconds.
    fn duration(&mut self, name: &str, default: f64, unit: f64) -> Duration {
        let seconds = match self.parsed::<f64>(name) {
            None => default * unit,
            Some(Ok(number)) if (1.0..=LONGEST).contains(&(number * unit)) => number * unit,
            Some(_) => {
                let longest = LONGEST / unit;
                self.fault(name, format_args!("must be a number, from a second to {longest:.0}"));
                default * unit
            }
        };
        Duration::from_secs(seconds.round() as u64)
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.get(name).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.fault(name, "must be true or false");
                false
            }
        }
    }

    fn list(&mut self, name: &str, default: &str) -> Vec<String> {
        let value = self.get(name).unwrap_or_else(|| default.to_owned());
        value.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    }

    fn choice<T: Copy, const N: usize>(&mut self, name: &str, default: T, choices: [(&str, T); N]) -> T {
        let Some(value) = self.get(name) else { return default };
        if let Some((_, chosen)) = choices.iter().find(|(choice, _)| *choice == value) {
            return *chosen;
        }
        let choices = choices.map(|(choice, _)| choice).join(", ");
        self.fault(name, format_args!("must be one of {choices}, not {value:?}"));
        default
    }

    fn transport(&mut self) -> Transport {
        let modes = [("body", Mode::Body), ("cookie", Mode::Cookie), ("both", Mode::Both)];
        let mode = self.choice("REFRESH_TOKEN_TRANSPORT", Mode::Body, modes);
        let sites = [("Strict", SameSite::Strict), ("Lax", SameSite::Lax), ("None", SameSite::None)];
        let same_site = self.choice("COOKIE_SAME_SITE", SameSite::Strict, sites);
        let allowed_origins = self.list("ALLOWED_ORIGINS", "");
        if let Some(other) = allowed_origins.iter().find(|origin| !is_origin(origin)) {
            self.fault(
                "ALLOWED_ORIGINS",
                format_args!(
                    "must be exact origins such as https://app.example.com, in small letters, without * and \
                     without a slash at the end, separated by commas; {other:?} is none"
                ),
            );
        }
        if mode != Mode::Body && allowed_origins.is_empty() {
            self.fault(
                "ALLOWED_ORIGINS",
                "is missing: with cookies (REFRESH_TOKEN_TRANSPORT), the origins of the pages that may use them, such \
                 as https://app.example.com",
            );
        }
        Transport { mode, same_site, allowed_origins }
    }

    fn limits(&mut self) -> Limits {
        const MANY: u64 = 1_000_000;
        let limits = Limits {
            guesses: Guesses {
                free: self.number("LIMIT_FREE_GUESSES", 5, 1..=MANY),
                most: self.number("LIMIT_GUESSES", 100, 1..=MANY),
                first_pause: Duration::from_secs(self.number("LIMIT_FIRST_PAUSE_SECONDS", 30, 1..=86_400)),
                longest_pause: Duration::from_secs(self.number("LIMIT_LONGEST_PAUSE_SECONDS", 3600, 1..=86_400)),
            },
            failures_per_address: self.number("LIMIT_FAILURES_PER_ADDRESS", 100, 1..=MANY),
            // Each is a few bytes in an item that every failure writes anew.
            accounts_per_address: self.number("LIMIT_ACCOUNTS_PER_ADDRESS", 20, 1..=1000),
            registrations_per_address: self.number("LIMIT_REGISTRATIONS_PER_ADDRESS", 20, 1..=MANY),
        };
        if limits.guesses.free > limits.guesses.most {
            self.fault("LIMIT_FREE_GUESSES", "must not be more than LIMIT_GUESSES");
        }
        limits
    }

    fn trusted_proxy(&mut self) -> Option<TrustedProxy> {
        let secret = SecretString::from(self.get("TRUSTED_PROXY_SECRET")?);
        if secret.expose_secret().len() < 32 {
            self.fault(
                "TRUSTED_PROXY_SECRET",
                "must have at least 32 characters, such as `openssl rand -hex 32` prints",
            );
        }
        Some(TrustedProxy { secret })
    }

    fn url(&mut self, name: &str) -> Option<String> {
        let url = self.get(name)?;
        if !url.starts_with("http://") && !url.starts_with("https://") {
            self.fault(name, format_args!("must be a URL, such as http://127.0.0.1:8000, not {url:?}"));
        }
        Some(url)
    }

    fn log_level(&mut self) -> Level {
        match self.parsed::<Level>("LOG_LEVEL") {
            None => Level::INFO,
            Some(Ok(level)) => level,
            Some(Err(value)) => {
                self.fault("LOG_LEVEL", format_args!("must be ERROR, WARN, INFO, DEBUG or TRACE, not {value:?}"));
                Level::INFO
            }
        }
    }

    fn keys(&mut self, algorithm: Algorithm) -> KeySource {
        let arn = self.get("JWT_SECRET_ARN");
        let passphrase = self.secret("JWT_PASSPHRASE");
        let private_key = self.get("JWT_PRIVATE_KEY").map(pem);
        let secret = match (self.secret("JWT_SECRET_KEY"), arn) {
            (Some(secret), _) => KeyRing::single(&secret).map_err(|fault| fault.to_string()),
            (None, Some(arn)) => {
                if private_key.is_some() {
                    self.fault(
                        "JWT_PRIVATE_KEY",
                        "goes with JWT_SECRET_KEY; beside JWT_SECRET_ARN, put the key into that secret",
                    );
                }
                return KeySource::Secret(arn);
            }
            (None, None) => {
                Err("is missing: a secret of at least 32 random bytes (or JWT_SECRET_ARN, the ARN of one)".into())
            }
        };
        // Whatever is wrong with the secret, the private key is looked at too.
        let keys = secret.unwrap_or_else(|fault| {
            self.fault("JWT_SECRET_KEY", fault);
            KeyRing::default()
        });
        let keys = signing(keys, private_key, passphrase.as_ref(), algorithm).unwrap_or_else(|fault| {
            self.fault("JWT_PRIVATE_KEY", fault);
            KeyRing::default()
        });
        KeySource::Given(Arc::new(keys))
    }
}

/// The PEM that this is, or that is in the file of this name. It is not shown
/// when it is neither: it might be half a key.
fn pem(key: String) -> Result<SecretString, String> {
    if is_pem(&key) {
        return Ok(key.into());
    }
    let file = std::fs::read_to_string(key).map(SecretString::from);
    file.map_err(|error| format!("is neither PEM nor a path to one: {error}"))
}

/// These keys with the private one, if there is one; what signs must be for `algorithm`.
fn signing(
    keys: KeyRing,
    private_key: Option<Result<SecretString, String>>,
    passphrase: Option<&SecretString>,
    algorithm: Algorithm,
) -> Result<KeyRing, String> {
    let Some(pem) = private_key else {
        return match algorithm {
            Algorithm::HS256 => Ok(keys),
            _ => Err(format!("is missing: a private key for {algorithm:?} in PEM, or a path to one")),
        };
    };
    let keys = keys.with_private_key(pem?.expose_secret(), passphrase);
    keys.and_then(|keys| keys.for_algorithm(algorithm)).map_err(|fault| fault.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::client::Client;
    use crate::clock::Timestamp;
    use crate::id::UserId;
    use crate::session::Session;
    use crate::token::RefreshToken;

    const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";

    /// What is required, and these variables over it.
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
        let limits =
            Limits { guesses, failures_per_address: 100, accounts_per_address: 20, registrations_per_address: 20 };
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
            ("DEVICE_TOKEN_EXPIRE_DAYS", "0"),
            ("TRUSTED_PROXY_SECRET", "too short"),
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
        let device = config.device_tokens.issue(&keys, user, now).unwrap();
        let access = config.access_tokens.issue(&keys, user, session.id, &config.default_roles, now).unwrap().token;
        assert!(config.access_tokens.verify(&keys, access.expose_secret(), now).is_ok());
        for token in [refresh, device, access] {
            let length = token.expose_secret().len();
            // With a cookie's name before it, and roles to spare.
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
                let variables =
                    [("JWT_SECRET_KEY", secret), ("JWT_ALGORITHM", "RS256"), ("JWT_PRIVATE_KEY", private_key)];
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

    /// A key of `token/testdata`, by its path.
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
        assert_eq!(
            parse(&[("JWT_ALGORITHM", "RS256"), ("JWT_SECRET_KEY", ""), arn]).unwrap().algorithm,
            Algorithm::RS256
        );
    }

    #[test]
    fn an_empty_secret_means_unset_and_a_given_one_goes_first() {
        let arn = ("JWT_SECRET_ARN", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:freshkey");
        assert!(matches!(parse(&[arn]).unwrap().keys, KeySource::Given(_)));
        assert!(matches!(parse(&[("JWT_SECRET_KEY", ""), arn]).unwrap().keys, KeySource::Secret(_)));
    }
}
