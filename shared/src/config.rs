//! Settings: environment variables, read once, every fault reported.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tracing::Level;

use crate::password::WorkFactor;
use crate::session::Lifetime;
use crate::token::{AccessTokens, Keys, RefreshTokens, refresh};

const MINUTE: f64 = 60.0;
const DAY: f64 = 24.0 * 60.0 * 60.0;
/// A century: what "never" comes to, and still a date.
const LONGEST: f64 = 36_500.0 * DAY;

/// Everything that can be set, parsed.
#[derive(Debug)]
pub struct Config {
    /// JWT_SECRET_KEY or JWT_SECRET_ARN.
    pub keys: KeySource,
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
    /// JWT_SECRET_KEY: the one key, at hand.
    Given(Keys),
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
        let keys = reader.keys();
        let issuer = reader.required("JWT_ISSUER", "who issues the tokens, such as https://auth.example.com");
        let audience =
            reader.required("JWT_AUDIENCE", "who the access tokens are for, such as https://api.example.com");
        if audience == refresh::AUDIENCE {
            reader.fault("JWT_AUDIENCE", format_args!("must not be {audience:?}, the audience of refresh tokens"));
        }
        reader.only("JWT_ALGORITHM", "HS256");
        reader.only("REFRESH_TOKEN_TRANSPORT", "body");
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
            reader.fault(
                "ARGON2_MEMORY_KIB and ARGON2_ITERATIONS",
                format_args!(
                    "must be at least 19456 and 2, or 47104 and 1 (OWASP's minimum), and at most 131072 and 16"
                ),
            );
        }
        let config = Self {
            keys,
            access_tokens: AccessTokens {
                issuer: issuer.clone(),
                audience,
                lifetime,
                leeway: Duration::from_secs(reader.number("JWT_LEEWAY_SECONDS", 0, 0..=60)),
            },
            refresh_tokens: RefreshTokens { issuer },
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

    fn fault(&mut self, name: &str, expects: impl fmt::Display) {
        self.faults.push(format!("{name} {expects}"));
    }

    fn required(&mut self, name: &str, expects: &str) -> String {
        self.get(name).unwrap_or_else(|| {
            self.fault(name, format_args!("is missing: {expects}"));
            String::new()
        })
    }

    fn only(&mut self, name: &str, supported: &str) {
        if let Some(value) = self.get(name).filter(|value| value != supported) {
            self.fault(name, format_args!("must be {supported}, not {value:?}"));
        }
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

    fn keys(&mut self) -> KeySource {
        let arn = self.get("JWT_SECRET_ARN");
        match self.get("JWT_SECRET_KEY").map(|secret| Keys::single(&secret.into())) {
            Some(Ok(keys)) => return KeySource::Given(keys),
            Some(Err(fault)) => self.fault("JWT_SECRET_KEY", fault),
            None if arn.is_none() => self.fault(
                "JWT_SECRET_KEY",
                "is missing: a secret of at least 32 random bytes (or JWT_SECRET_ARN, the ARN of one)",
            ),
            None => {}
        }
        KeySource::Secret(arn.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";

    fn parse(changes: &[(&str, &str)]) -> Result<Config, ConfigError> {
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
            ("CHECK_SESSION_ON_EVERY_CALL", "yes"),
            ("MAX_SESSIONS", "0"),
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
    fn all_faults_are_reported_together_and_show_no_secret() {
        let secret = "hunter2hunter2";
        let faults = parse(&[("JWT_SECRET_KEY", secret), ("JWT_ISSUER", ""), ("LOG_LEVEL", "LOUD")]).unwrap_err();
        let text = faults.to_string();
        for name in ["JWT_SECRET_KEY", "JWT_ISSUER", "LOG_LEVEL"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(!text.contains(secret), "{text}");
    }

    #[test]
    fn an_empty_secret_means_unset_and_a_given_one_goes_first() {
        let arn = ("JWT_SECRET_ARN", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:freshkey");
        assert!(matches!(parse(&[arn]).unwrap().keys, KeySource::Given(_)));
        assert!(matches!(parse(&[("JWT_SECRET_KEY", ""), arn]).unwrap().keys, KeySource::Secret(_)));
    }
}
