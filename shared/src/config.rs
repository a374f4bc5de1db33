//! The settings: environment variables, read once. All faults are reported
//! together.

mod mailer;
#[cfg(test)]
pub(crate) mod tests;

pub use mailer::MailerConfig;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tracing::Level;
use url::{Host, Url};

use crate::clock::Timestamp;
use crate::email::Email;
use crate::limit::{Guesses, Limits};
use crate::password::WorkFactor;
use crate::session::Lifetime;
use crate::token::{
    ALGORITHMS, AccessTokens, Algorithm, DEMO_SECRET, DeviceTokens, ImportedTokens, KeyRing, RefreshTokens,
    RolesTooLong, check_secret, device, is_kid, is_pem, refresh,
};
use crate::transport::{Mode, SameSite, Transport, is_origin};

/// How long a request may take before the client gets 503. It is shorter than the
/// functions' timeout of 10 seconds (template.yaml), after which API Gateway
/// answers instead.
pub const DEADLINE: Duration = Duration::from_secs(9);

/// The unit of a setting that is a length of time.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    seconds: f64,
    /// One second in this unit, rounded up.
    least: f64,
}

const MINUTES: Unit = Unit { name: "minutes", seconds: 60.0, least: 0.017 };
const DAYS: Unit = Unit { name: "days", seconds: 86_400.0, least: 0.000_012 };
/// The longest time, in seconds: 100 years of 365 days.
const LONGEST: f64 = 36_500.0 * DAYS.seconds;
/// The most bytes of JWT_ISSUER and of JWT_AUDIENCE.
const MAX_PARTY: usize = 256;

/// The settings. An empty variable counts as missing. Times in minutes and days may
/// have decimals, and are rounded to whole seconds.
#[derive(Debug)]
pub struct Config {
    /// The keys. `JWT_SECRET_KEY` (at least 32 random bytes) with `JWT_PRIVATE_KEY`
    /// (PEM or the path of a file, required unless `JWT_ALGORITHM` is HS256) and
    /// `JWT_PASSPHRASE` (required if that key is encrypted); or else `JWT_SECRET_ARN`
    /// (the ARN of a secret in Secrets Manager). No default.
    pub keys: KeySource,
    /// `JWT_ALGORITHM`, the algorithm of access tokens: HS256 (default), RS256,
    /// ES256 or EdDSA.
    pub algorithm: Algorithm,
    /// `JWT_ISSUER` and `JWT_AUDIENCE` (required, at most 256 bytes each),
    /// `JWT_ACCESS_TOKEN_EXPIRE_MINUTES` (default 60, from 0.017 to 52560000) and
    /// `JWT_LEEWAY_SECONDS` (default 0, from 0 to 60).
    pub access_tokens: AccessTokens,
    /// `JWT_ISSUER` (required, at most 256 bytes).
    pub refresh_tokens: RefreshTokens,
    /// `JWT_REFRESH_TOKEN_EXPIRE_DAYS` (default 30), the idle lifetime, and
    /// `SESSION_ABSOLUTE_EXPIRE_DAYS` (default 180): each from 0.000012 to 36500.
    pub session_lifetime: Lifetime,
    /// `REFRESH_REUSE_INTERVAL_SECONDS`: default 0, from 0 to 60.
    pub reuse_interval: Duration,
    /// `IMPORTED_TOKENS_UNTIL`, a date and the name of a key, such as `2027-03-31:k1`:
    /// until the beginning of that day (UTC), imported refresh tokens are accepted, which
    /// are known by that key. Default: none are accepted.
    pub imported_tokens: Option<ImportedTokens>,
    /// `REFRESH_BURST` (default 60) and `REFRESH_PER_LIFETIME` (default 4): each
    /// from 1 to 1000000000.
    pub rotation_budget: RotationBudget,
    /// `MAX_SESSIONS` of a user: default 50, from 1 to 1000.
    pub max_sessions: usize,
    /// `ARGON2_MEMORY_KIB` (default 19456, at most 131072) and
    /// `ARGON2_ITERATIONS` (default 2, at most 16): together no weaker than
    /// OWASP's minimum ([`WorkFactor::MINIMUM`]).
    pub password_work: WorkFactor,
    /// `PASSWORD_MIN_LENGTH`, in code points: default 8, from 8 to 64.
    pub password_min_length: usize,
    /// `DEFAULT_ROLES` of a new user, separated by commas: default ROLE_USER, at most
    /// as many as fit into an access token.
    pub default_roles: Vec<String>,
    /// `CHECK_SESSION_ON_EVERY_CALL`, true or false (default): whether the session and
    /// the user are read on every call, so that an ended session is refused at once.
    pub check_session_on_every_call: bool,
    /// `REFRESH_TOKEN_TRANSPORT` (body (default), cookie or both),
    /// `COOKIE_SAME_SITE` (Strict (default), Lax or None) and `ALLOWED_ORIGINS`
    /// (exact origins, separated by commas; required unless the transport is body).
    pub transport: Transport,
    /// The limits on repeated attempts:
    /// `LIMIT_FREE_GUESSES` (default 5, from 1 to `LIMIT_GUESSES`),
    /// `LIMIT_GUESSES` (default 100, from 1 to 1000000),
    /// `LIMIT_FIRST_PAUSE_SECONDS` (default 30, from 1 to
    /// `LIMIT_LONGEST_PAUSE_SECONDS`),
    /// `LIMIT_LONGEST_PAUSE_SECONDS` (default 3600, from 1 to 86400),
    /// `LIMIT_FAILURES_PER_ADDRESS` (default 100, from 1 to 1000000),
    /// `LIMIT_ACCOUNTS_PER_ADDRESS` (default 20, from 1 to 1000),
    /// `LIMIT_REGISTRATIONS_PER_ADDRESS` (default 20, from 1 to 1000000),
    /// `LIMIT_MAIL_REQUESTS_PER_ADDRESS` (default 20, from 1 to 1000000) and
    /// `LIMIT_LINKS_PER_ADDRESS` (default 100, from 1 to 1000000).
    pub limits: Limits,
    /// `JWT_ISSUER` (required, at most 256 bytes) and `DEVICE_TOKEN_EXPIRE_DAYS`
    /// (default 365, from 0.000012 to 36500).
    pub device_tokens: DeviceTokens,
    /// `TRUSTED_PROXY_SECRET`, the secret that a trusted proxy sends with each request:
    /// at least 32 random bytes. Default: no proxy is trusted.
    pub trusted_proxy: Option<TrustedProxy>,
    /// Whether mail is on: whether `MAIL_FROM` is set. Without mail, no address can be
    /// proven and no password reset.
    pub mail: bool,
    /// `REQUIRE_VERIFIED_EMAIL`, true or false (default): whether [`crate::layer`] and
    /// the authorizer refuse users who have not proven their address. true needs
    /// `MAIL_FROM`.
    pub require_verified_email: bool,
    /// `NOTIFY_NEW_DEVICE`, true or false (default): whether users get a mail when an
    /// unknown device has logged in. true needs `MAIL_FROM`.
    pub notify_new_device: bool,
    /// `TABLE_NAME` (required).
    pub table_name: String,
    /// `TABLE_ENDPOINT`, the http or https URL of a DynamoDB other than the region's.
    /// Default: the region's, or that of `AWS_ENDPOINT_URL_DYNAMODB` or
    /// `AWS_ENDPOINT_URL`.
    pub table_endpoint: Option<String>,
    /// `LOG_LEVEL`: ERROR, WARN, INFO (default), DEBUG or TRACE.
    pub log_level: Level,
    /// `TEST_PATIENCE` (default 1, from 1 to 100), read only with the feature
    /// `testing`: the factor by which the timeouts of calls and handlers are
    /// multiplied. Tests raise it when they create more work than the machine can do in
    /// time.
    pub(crate) patience: u32,
}

/// Where the keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// From JWT_SECRET_KEY and JWT_PRIVATE_KEY.
    Given(Arc<KeyRing>),
    /// From the secret in Secrets Manager with this ARN (JWT_SECRET_ARN).
    Secret(String),
    /// There are none: the function signs and verifies no tokens.
    None,
}

/// How many rotations a session may make. A client that follows the rules makes one per
/// access-token lifetime; a client that loops is stopped before it costs money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationBudget {
    /// Rotations that are always allowed.
    pub burst: u64,
    /// Further rotations for each access-token lifetime since the login.
    pub per_lifetime: u64,
}

/// A proxy in front of the API, which reports the client's address. It is believed only
/// if it sends the secret.
#[derive(Clone, Debug)]
pub struct TrustedProxy {
    /// The secret that the proxy sends with each request.
    pub secret: SecretString,
}

/// The faults of the settings, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// Returns the faults. Each begins with the variable that has it.
    pub fn faults(&self) -> &[String] {
        &self.0
    }
}

impl Config {
    /// Reads every setting through `lookup`, which returns the value of a variable.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all faults together, each with its variable and what is
    /// allowed. No fault shows the value of a secret.
    pub fn parse(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::parse_with(lookup, Reader::keys)
    }

    /// Reads every setting but the keys, for a function that signs and verifies no
    /// tokens.
    ///
    /// # Errors
    ///
    /// Those of [`Config::parse`].
    pub fn parse_without_keys(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::parse_with(lookup, |_, _, _| KeySource::None)
    }

    fn parse_with<F: Fn(&str) -> Option<String>>(
        lookup: F,
        keys: impl FnOnce(&mut Reader<F>, Algorithm, Option<&Endpoint>) -> KeySource,
    ) -> Result<Self, ConfigError> {
        let mut reader = Reader { lookup, faults: Vec::new() };
        let algorithm = reader.choice("JWT_ALGORITHM", Algorithm::HS256, ALGORITHMS);
        let table_endpoint = reader.endpoint("TABLE_ENDPOINT");
        let keys = keys(&mut reader, algorithm, table_endpoint.as_ref());
        let issuer = reader.party("JWT_ISSUER", "the issuer of the tokens, such as https://auth.example.com");
        let audience =
            reader.party("JWT_AUDIENCE", "the audience of the access tokens, such as https://api.example.com");
        if [refresh::AUDIENCE, device::AUDIENCE].contains(&audience.as_str()) {
            reader
                .fault("JWT_AUDIENCE", format_args!("must not be {audience:?}, the audience of another kind of token"));
        }
        let lifetime = reader.duration("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", 60.0, MINUTES);
        let session_lifetime = Lifetime {
            idle: reader.duration("JWT_REFRESH_TOKEN_EXPIRE_DAYS", 30.0, DAYS),
            absolute: reader.duration("SESSION_ABSOLUTE_EXPIRE_DAYS", 180.0, DAYS),
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
            imported_tokens: reader.imported_tokens(),
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
            device_tokens: DeviceTokens { issuer, lifetime: reader.duration("DEVICE_TOKEN_EXPIRE_DAYS", 365.0, DAYS) },
            trusted_proxy: reader.trusted_proxy(),
            mail: reader.mail_address("MAIL_FROM").is_some(),
            require_verified_email: reader.mail_flag("REQUIRE_VERIFIED_EMAIL"),
            notify_new_device: reader.mail_flag("NOTIFY_NEW_DEVICE"),
            table_name: reader.required("TABLE_NAME", "the name of the DynamoDB table"),
            table_endpoint: table_endpoint.map(|url| url.given),
            log_level: reader.log_level(),
            patience: reader.patience(),
        };
        if let Err(fault) = config.check_roles(&config.default_roles) {
            reader.fault("DEFAULT_ROLES", format_args!("has too many or too long roles: {fault}"));
        }
        reader.finish(config)
    }

    /// Checks that an access token has room for these roles. An operator's change of
    /// roles must pass this check.
    ///
    /// # Errors
    ///
    /// [`RolesTooLong`] when the roles do not fit.
    pub fn check_roles(&self, roles: &[String]) -> Result<(), RolesTooLong> {
        self.access_tokens.check_roles(self.algorithm, roles)
    }
}

/// The URL of an AWS service.
struct Endpoint {
    given: String,
    /// Whether it is plain HTTP to this machine.
    is_local: bool,
}

/// Returns whether a URL is plain HTTP to this machine.
pub fn is_local(url: &Url) -> bool {
    let is_this_machine = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(domain)) => domain == "localhost",
        None => false,
    };
    url.scheme() == "http" && is_this_machine
}

struct Reader<F> {
    lookup: F,
    faults: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Returns a secret with the white space around it.
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

    /// Reads the issuer or the audience, which every token contains. The limit leaves
    /// room for the other claims even if JSON escapes every byte.
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

    /// Reads a length of time, with decimals, and rounds it to whole seconds.
    fn duration(&mut self, name: &str, default: f64, unit: Unit) -> Duration {
        let seconds = match self.parsed::<f64>(name) {
            None => default * unit.seconds,
            Some(Ok(number)) if (1.0..=LONGEST).contains(&(number * unit.seconds)) => number * unit.seconds,
            Some(_) => {
                let Unit { name: unit_name, least, .. } = unit;
                let most = LONGEST / unit.seconds;
                self.fault(name, format_args!("must be a number of {unit_name} from {least} to {most:.0}"));
                default * unit.seconds
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

    /// Reads an e-mail address in ASCII, without a name.
    fn mail_address(&mut self, name: &str) -> Option<String> {
        let address = self.get(name)?;
        let is_plain = address.is_ascii() && Email::parse(&address).is_ok_and(|email| email.mailbox().is_some());
        if !is_plain {
            self.fault(name, "must be an e-mail address in ASCII, such as no-reply@example.com, without a name");
        }
        Some(address)
    }

    /// Reads a flag that means nothing without mail.
    fn mail_flag(&mut self, name: &str) -> bool {
        let is_set = self.flag(name);
        if is_set && self.get("MAIL_FROM").is_none() {
            self.fault(name, "needs mail: set MAIL_FROM");
        }
        is_set
    }

    /// Returns `config`, unless there were faults.
    fn finish<T>(self, config: T) -> Result<T, ConfigError> {
        if self.faults.is_empty() { Ok(config) } else { Err(ConfigError(self.faults)) }
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
                    "must be exact origins as browsers send them, such as https://app.example.com, separated by \
                     commas: in lower case, without *, path, slash at the end or default port. {other:?} is not an \
                     origin"
                ),
            );
        }
        if mode != Mode::Body && allowed_origins.is_empty() {
            self.fault(
                "ALLOWED_ORIGINS",
                "is missing: the origins of the pages that may use the cookies of REFRESH_TOKEN_TRANSPORT, such as \
                 https://app.example.com",
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
            // Each account takes a few bytes of an item that every failure rewrites.
            accounts_per_address: self.number("LIMIT_ACCOUNTS_PER_ADDRESS", 20, 1..=1000),
            registrations_per_address: self.number("LIMIT_REGISTRATIONS_PER_ADDRESS", 20, 1..=MANY),
            mail_requests_per_address: self.number("LIMIT_MAIL_REQUESTS_PER_ADDRESS", 20, 1..=MANY),
            links_per_address: self.number("LIMIT_LINKS_PER_ADDRESS", 100, 1..=MANY),
        };
        if limits.guesses.free > limits.guesses.most {
            self.fault("LIMIT_FREE_GUESSES", "must not be more than LIMIT_GUESSES");
        }
        if limits.guesses.first_pause > limits.guesses.longest_pause {
            self.fault("LIMIT_FIRST_PAUSE_SECONDS", "must not be more than LIMIT_LONGEST_PAUSE_SECONDS");
        }
        limits
    }

    fn imported_tokens(&mut self) -> Option<ImportedTokens> {
        let value = self.get("IMPORTED_TOKENS_UNTIL")?;
        let tokens = value.split_once(':').and_then(|(date, kid)| {
            let until = Timestamp::of_date(date)?;
            is_kid(kid).then(|| ImportedTokens { until, kid: kid.to_owned() })
        });
        if tokens.is_none() {
            self.fault(
                "IMPORTED_TOKENS_UNTIL",
                format_args!("must be a date and the name of a key, such as 2027-03-31:k1, not {value:?}"),
            );
        }
        tokens
    }

    fn trusted_proxy(&mut self) -> Option<TrustedProxy> {
        let secret = SecretString::from(self.get("TRUSTED_PROXY_SECRET")?);
        if let Err(fault) = check_secret(secret.expose_secret()) {
            self.fault("TRUSTED_PROXY_SECRET", fault);
        } else if secret.expose_secret().contains(|c: char| !c.is_ascii_graphic() && c != ' ') {
            self.fault("TRUSTED_PROXY_SECRET", "must be printable ASCII, because it is sent in a header");
        }
        Some(TrustedProxy { secret })
    }

    /// Reads the URL of an AWS service, or of something like it.
    fn endpoint(&mut self, name: &str) -> Option<Endpoint> {
        let given = self.get(name)?;
        let url = Url::parse(&given).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let Some(url) = url else {
            self.fault(
                name,
                format_args!("must be an http or https URL, such as http://127.0.0.1:8000, not {given:?}"),
            );
            return None;
        };
        Some(Endpoint { given, is_local: is_local(&url) })
    }

    fn patience(&mut self) -> u32 {
        if cfg!(feature = "testing") { self.number("TEST_PATIENCE", 1, 1..=100) as u32 } else { 1 }
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

    fn keys(&mut self, algorithm: Algorithm, table: Option<&Endpoint>) -> KeySource {
        let arn = self.get("JWT_SECRET_ARN");
        let passphrase = self.secret("JWT_PASSPHRASE");
        let private_key = self.get("JWT_PRIVATE_KEY").map(pem);
        let secret = match (self.secret("JWT_SECRET_KEY"), arn) {
            // The demo's secret is accepted only with a table on this machine.
            (Some(secret), _) if secret.expose_secret() == DEMO_SECRET && table.is_some_and(|table| table.is_local) => {
                KeyRing::demo().map_err(|fault| fault.to_string())
            }
            (Some(secret), _) => KeyRing::single(&secret).map_err(|fault| fault.to_string()),
            (None, Some(arn)) => {
                if private_key.is_some() {
                    self.fault(
                        "JWT_PRIVATE_KEY",
                        "is used only with JWT_SECRET_KEY: put the key into the secret of JWT_SECRET_ARN",
                    );
                }
                return KeySource::Secret(arn);
            }
            (None, None) => {
                Err("is missing: a secret of at least 32 random bytes (or JWT_SECRET_ARN, the ARN of one)".into())
            }
        };
        // The private key is checked too, so that all faults are reported.
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

/// Returns the key, or the content of the file that `key` names. If `key` is neither,
/// the fault does not show it, because it may be part of a key.
fn pem(key: String) -> Result<SecretString, String> {
    if is_pem(&key) {
        return Ok(key.into());
    }
    let file = std::fs::read_to_string(key).map(SecretString::from);
    file.map_err(|error| format!("is neither a private key in PEM nor the path of a file that can be read: {error}"))
}

/// Adds the private key, if there is one, and checks that the signing key is for `algorithm`.
fn signing(
    keys: KeyRing,
    private_key: Option<Result<SecretString, String>>,
    passphrase: Option<&SecretString>,
    algorithm: Algorithm,
) -> Result<KeyRing, String> {
    let Some(pem) = private_key else {
        return match algorithm {
            Algorithm::HS256 => Ok(keys),
            _ => Err(format!("is missing: a private key for {algorithm:?} in PEM, or the path of a file with one")),
        };
    };
    let keys = keys.with_private_key(pem?.expose_secret(), passphrase);
    keys.and_then(|keys| keys.for_algorithm(algorithm)).map_err(|fault| fault.to_string())
}
