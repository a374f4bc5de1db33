//! The ring of keys in a stack's secret, and what the secret's tags say about each key.
//! A ring that the functions would not accept is never made: every change goes through
//! their own parser.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_sdk_secretsmanager::primitives::{DateTime, DateTimeFormat};
use freshkey::auth::MAX_COPY_AGE;
use freshkey::token::{Algorithm, KeyError, KeyRing};
use freshkey::{Config, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Access tokens.
    Access,
    /// Refresh tokens, and with them device tokens.
    Refresh,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 2] = [Self::Access, Self::Refresh];

    /// Returns the name of the tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }

    /// Returns the member of the secret that names the key.
    fn member(self) -> &'static str {
        match self {
            Self::Access => "signing",
            Self::Refresh => "refresh",
        }
    }
}

/// The keys of a secret.
pub struct Ring {
    text: SecretString,
    members: Map<String, Value>,
    algorithms: BTreeMap<String, Algorithm>,
}

impl Ring {
    /// Reads the keys of a secret.
    ///
    /// # Errors
    ///
    /// Those of [`KeyRing::parse`].
    pub fn parse(text: SecretString) -> Result<Self, KeyError> {
        let ring = KeyRing::parse(&text)?;
        let algorithms = ring.algorithms().map(|(name, algorithm)| (name.to_owned(), algorithm)).collect();
        let members = serde_json::from_str(text.expose_secret()).map_err(|_| KeyError::Shape)?;
        Ok(Self { text, members, algorithms })
    }

    /// Returns the secret.
    pub fn text(&self) -> &SecretString {
        &self.text
    }

    /// Returns the names of the keys, in the order of the secret.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str).filter(|name| self.algorithms.contains_key(*name))
    }

    /// Returns the algorithm of a key; HS256 for a random secret. `None` when there is no
    /// such key.
    pub fn algorithm(&self, name: &str) -> Option<Algorithm> {
        self.algorithms.get(name).copied()
    }

    /// Returns the name of the key that signs these tokens.
    pub fn signer(&self, role: Role) -> &str {
        self.members.get(role.member()).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns what a key signs.
    pub fn roles(&self, name: &str) -> Vec<Role> {
        Role::ALL.into_iter().filter(|role| self.signer(*role) == name).collect()
    }

    /// Returns whether functions with this JWT_ALGORITHM use the ring.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithm(self.signer(Role::Access)) == Some(algorithm)
    }

    /// Returns the ring with another key.
    ///
    /// # Errors
    ///
    /// Those of [`KeyRing::parse`].
    pub fn with(&self, name: &str, key: &SecretString, passphrase: Option<&SecretString>) -> Result<Self, KeyError> {
        let mut members = self.members.clone();
        members.insert(name.to_owned(), key.expose_secret().into());
        if let Some(passphrase) = passphrase {
            members.insert(passphrase_of(name), passphrase.expose_secret().into());
        }
        Self::of(members)
    }

    /// Returns the ring in which this key has these roles.
    ///
    /// # Errors
    ///
    /// Those of [`KeyRing::parse`].
    pub fn signed_by(&self, name: &str, roles: &[Role]) -> Result<Self, KeyError> {
        let mut members = self.members.clone();
        members.extend(roles.iter().map(|role| (role.member().to_owned(), name.into())));
        Self::of(members)
    }

    /// Returns the ring without this key.
    ///
    /// # Errors
    ///
    /// Those of [`KeyRing::parse`].
    pub fn without(&self, name: &str) -> Result<Self, KeyError> {
        let passphrase = passphrase_of(name);
        let members = self.members.iter().filter(|(member, _)| *member != name && **member != passphrase);
        Self::of(members.map(|(member, value)| (member.clone(), value.clone())).collect())
    }

    fn of(members: Map<String, Value>) -> Result<Self, KeyError> {
        Self::parse(Value::Object(members).to_string().into())
    }
}

/// Returns the member that has the passphrase of a key.
fn passphrase_of(name: &str) -> String {
    format!("{name}.passphrase")
}

/// Returns a name for a new key: `k3` where the highest of these is `k2`. A name is used
/// once, because other services keep published keys by their names.
pub fn next_name<'a>(used: impl Iterator<Item = &'a str>) -> String {
    format!("k{}", used.filter_map(number).max().unwrap_or_default().saturating_add(1))
}

/// Returns the names of which nothing needs to be known: those that are not in the ring,
/// except the highest, above which [`next_name`] goes on.
pub fn forgettable<'a>(known: impl Iterator<Item = &'a str> + Clone, ring: &Ring) -> Vec<&'a str> {
    let highest = known.clone().filter_map(number).max().max(ring.names().filter_map(number).max());
    known.filter(|name| ring.algorithm(name).is_none() && (number(name).is_none() || number(name) != highest)).collect()
}

fn number(name: &str) -> Option<u32> {
    name.strip_prefix('k')?.parse().ok()
}

/// For how long tokens are good.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    access: Duration,
    refresh: Duration,
}

impl Lifetimes {
    /// Returns the lifetimes of the settings.
    pub fn of(config: &Config) -> Self {
        let sessions = config.session_lifetime;
        Self {
            access: config.access_tokens.lifetime + config.access_tokens.leeway,
            refresh: sessions.idle.min(sessions.absolute),
        }
    }

    fn of_role(self, role: Role) -> Duration {
        match role {
            Role::Access => self.access,
            Role::Refresh => self.refresh,
        }
    }
}

/// What is known about a key: the value of its tag.
///
/// The default is that of a key that has never signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// When the key was added.
    pub added_at: Option<Timestamp>,
    access: Signed,
    refresh: Signed,
}

/// Until when a key signed tokens of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Signed {
    #[default]
    Never,
    Until(Timestamp),
    /// It signs now, or did until an unknown time.
    Unknown,
}

impl History {
    /// Returns the history of a key that was added by hand or by CloudFormation.
    pub fn unknown() -> Self {
        Self { added_at: None, access: Signed::Unknown, refresh: Signed::Unknown }
    }

    /// Returns the history of a key that is added now.
    pub fn added(now: Timestamp) -> Self {
        Self { added_at: Some(now), ..Self::default() }
    }

    /// Notes that the key begins to sign.
    pub fn begins(&mut self, role: Role) {
        *self.signed(role) = Signed::Unknown;
    }

    /// Notes that the key stops signing now.
    pub fn stops(&mut self, role: Role, now: Timestamp) {
        *self.signed(role) = Signed::Until(now);
    }

    fn signed(&mut self, role: Role) -> &mut Signed {
        match role {
            Role::Access => &mut self.access,
            Role::Refresh => &mut self.refresh,
        }
    }

    /// Returns from when on every function knows the key, unless the secret cannot be
    /// read. The secret was last changed at `changed_at`, so the key is not newer.
    pub fn ready_at(&self, changed_at: Timestamp) -> Timestamp {
        self.added_at.map_or(changed_at, |added| added.min(changed_at)) + 2 * MAX_COPY_AGE
    }

    /// Returns when the last token that the key signed has expired, if it does not sign
    /// now. `None` when it has never signed. The secret was last changed at `changed_at`,
    /// so the key has not signed for longer than functions use a copy after that.
    pub fn spent_at(&self, algorithm: Algorithm, lifetimes: Lifetimes, changed_at: Timestamp) -> Option<Timestamp> {
        let end = |role, signed| {
            let until = match signed {
                Signed::Never => return None,
                Signed::Until(until) => until,
                Signed::Unknown => changed_at,
            };
            Some(until + MAX_COPY_AGE + lifetimes.of_role(role))
        };
        // A private key signs access tokens only.
        let of_refresh = end(Role::Refresh, self.refresh).filter(|_| algorithm == Algorithm::HS256);
        end(Role::Access, self.access).max(of_refresh)
    }

    /// Reads the value of a tag. What it does not say is unknown.
    pub fn parse(tag: &str) -> Self {
        let field = |name: &str| tag.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let added_at = field("added").and_then(time);
        // A key whose addition was noted has signed nothing that was not noted.
        let silence = added_at.map_or(Signed::Unknown, |_| Signed::Never);
        let signed = |name| field(name).map_or(silence, |text| time(text).map_or(Signed::Unknown, Signed::Until));
        Self { added_at, access: signed("access"), refresh: signed("refresh") }
    }
}

/// Writes the value of a tag: `added=2026-11-26T09:30:00Z access=unknown`. It has only
/// characters that tags may have. (AWS Secrets Manager API Reference, "Tag".)
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = |signed| match signed {
            Signed::Never => None,
            Signed::Until(until) => Some(until.to_string()),
            Signed::Unknown => Some("unknown".to_owned()),
        };
        let fields = [
            ("added", self.added_at.map(|added| added.to_string())),
            ("access", signed(self.access)),
            ("refresh", signed(self.refresh)),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        f.write_str(&fields.collect::<Vec<_>>().join(" "))
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let time = DateTime::from_str(text, DateTimeFormat::DateTime).ok()?;
    Some(Timestamp::from_seconds(time.secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_685_400);

    fn ring(signing: &str, names: &[&str]) -> Ring {
        let mut members = Map::from_iter([("signing".into(), signing.into()), ("refresh".into(), signing.into())]);
        members.extend(names.iter().map(|name| ((*name).into(), "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a".into())));
        Ring::of(members).unwrap()
    }

    #[test]
    fn a_ring_that_the_functions_would_not_accept_is_not_made() {
        let ring = ring("k1", &["k1", "k2"]);
        assert_eq!(ring.without("k1").err(), Some(KeyError::Missing("signing")));
        assert_eq!(ring.signed_by("k3", &[Role::Refresh]).err(), Some(KeyError::Missing("refresh")));
        assert!(ring.with("k3", &"short".into(), None).is_err());
        assert!(ring.with("a/b", &"Zq8LmW4tYc0RbXnV5sKe2HgJd7UfPa1o".into(), None).is_err());
        assert!(Ring::parse("[]".to_owned().into()).is_err());
    }

    #[test]
    fn a_history_is_read_from_its_tag() {
        let mut history = History::added(NOW);
        assert_eq!(history.to_string(), "added=2026-11-26T09:30:00Z");
        assert_eq!(History::parse(&history.to_string()), history);
        history.begins(Role::Access);
        history.stops(Role::Refresh, NOW);
        assert_eq!(history.to_string(), "added=2026-11-26T09:30:00Z access=unknown refresh=2026-11-26T09:30:00Z");
        assert_eq!(History::parse(&history.to_string()), history);
        assert_eq!(History::parse(&History::unknown().to_string()), History::unknown());
    }

    #[test]
    fn what_a_tag_does_not_say_is_unknown() {
        for tag in ["", "x", "added", "added=", "added=yesterday", "added=yesterday access=never"] {
            assert_eq!(History::parse(tag), History::unknown(), "{tag}");
        }
    }

    #[test]
    fn a_name_is_used_once() {
        let ring = ring("k2", &["k2", "mine"]);
        assert_eq!(next_name(["k2", "mine", "k", "kx", "k9x"].into_iter()), "k3");
        assert_eq!(next_name(["mine"].into_iter()), "k1");
        assert_eq!(forgettable(["k1", "k2", "theirs"].into_iter(), &ring), ["k1", "theirs"]);
        // The highest name stays known.
        assert_eq!(forgettable(["k1", "k3"].into_iter(), &ring), ["k1"]);
    }

    #[test]
    fn a_private_key_never_signed_refresh_tokens() {
        let lifetimes = Lifetimes { access: Duration::from_secs(60), refresh: Duration::from_secs(3600) };
        let spent = |algorithm| History::unknown().spent_at(algorithm, lifetimes, NOW);
        assert_eq!(spent(Algorithm::ES256), Some(NOW + MAX_COPY_AGE + lifetimes.access));
        assert_eq!(spent(Algorithm::HS256), Some(NOW + MAX_COPY_AGE + lifetimes.refresh));
        assert_eq!(History::added(NOW).spent_at(Algorithm::HS256, lifetimes, NOW), None);
    }
}
