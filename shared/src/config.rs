//! Settings: environment variables, read once, every fault reported.

#[cfg(test)]
pub(crate) mod tests;

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
    /// What the timeouts of calls and handlers are multiplied by: 1, but for tests
    /// that bring more work at once than the machine can do within them. They set
    /// TEST_PATIENCE, from 1 to 100, which is read only with the feature `testing`.
    pub(crate) patience: u32,
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
            patience: if cfg!(feature = "testing") { reader.number("TEST_PATIENCE", 1, 1..=100) as u32 } else { 1 },
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
