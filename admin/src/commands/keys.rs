//! `freshkey keys`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use freshkey::Timestamp;
use freshkey::token::{Algorithm, KeyError};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::cli::{For, Keys};
use crate::desk::{Desk, passphrase};
use crate::failure::Failure;
use crate::key;
use crate::ring::{History, Lifetimes, Ring, Role, forgettable, next_name};
use crate::secret::{Held, Secret};

const COLUMNS: &[&str] = &["name", "algorithm", "signs", "added_at", "ready_at", "spent_at"];
/// For how long API Gateway's JWT authorizer may keep the published keys. (Amazon API
/// Gateway Developer Guide, "Control access to HTTP APIs with JWT authorizers".)
const AUTHORIZER_CACHE: Duration = Duration::from_secs(2 * 3600);

pub async fn run(desk: &Desk, command: Keys) -> Result<(), Failure> {
    let secret = desk.secret()?;
    let held = secret.read(desk.now()).await?;
    let ring = Ring::parse(held.text.clone()).map_err(unusable)?;
    let keys = Shelf { desk, secret, held, ring };
    match command {
        Keys::List => keys.list(),
        Keys::Add { algorithm, pem, passphrase_stdin } => keys.add(algorithm, pem.as_deref(), passphrase_stdin).await,
        Keys::Use { name, role } => keys.use_key(&name, role).await,
        Keys::Retire { name } => keys.retire(&name).await,
    }
}

/// The keys as they were read.
struct Shelf<'a> {
    desk: &'a Desk,
    secret: Secret,
    held: Held,
    ring: Ring,
}

impl Shelf<'_> {
    fn list(&self) -> Result<(), Failure> {
        let mut list = self.desk.out.list(COLUMNS);
        for name in self.ring.names() {
            list.add(&self.row(name, &self.ring, &self.history(name), self.held.changed_at));
        }
        list.end();
        if !self.ring.is_for(self.algorithm()) {
            self.desk.out.remark(&self.mismatch(self.ring.signer(Role::Access)));
        }
        Ok(())
    }

    async fn add(&self, algorithm: Algorithm, pem: Option<&Path>, passphrase_stdin: bool) -> Result<(), Failure> {
        let (key, passphrase) = match pem {
            Some(path) => (file(path)?, if passphrase_stdin { Some(passphrase()?) } else { None }),
            None => (key::generate(algorithm)?, None),
        };
        let name = next_name(self.ring.names().chain(self.held.histories.keys().map(String::as_str)));
        let ring = self.ring.with(&name, &key, passphrase.as_ref()).map_err(|fault| match fault {
            // What is no PEM was checked as a random secret.
            KeyError::Key { fault, .. } if *fault != KeyError::Passphrase && pem.is_some() => no_pem(algorithm),
            KeyError::Key { fault, .. } => Failure::refused("key_refused", format!("The key {fault}.")),
            fault => unusable(fault),
        })?;
        if ring.algorithm(&name) != Some(algorithm) {
            return Err(no_pem(algorithm));
        }
        let now = self.desk.now();
        let history = History::added(now);
        let notes = [(name.as_str(), history.clone())].into();
        self.change(&format!("keys add {algorithm:?} {name}"), &notes, &ring).await?;
        self.desk.out.object(&self.row(&name, &ring, &history, now));
        Ok(())
    }

    async fn use_key(&self, name: &str, role: Option<For>) -> Result<(), Failure> {
        let algorithm = self.existing(name)?;
        let is_secret = algorithm == Algorithm::HS256;
        let roles: &[_] = match role {
            Some(For::Access) => &[Role::Access],
            Some(For::Refresh) => &[Role::Refresh],
            Some(For::Both) => &Role::ALL,
            None if !is_secret => &[Role::Access],
            None if self.algorithm() == Algorithm::HS256 => &Role::ALL,
            None => &[Role::Refresh],
        };
        if !is_secret && roles.contains(&Role::Refresh) {
            let message = format!("{name} is a private key. Refresh tokens are signed with a random secret.");
            return Err(Failure::refused("key_refused", message));
        }
        let roles: Vec<_> = roles.iter().copied().filter(|role| self.ring.signer(*role) != name).collect();
        if roles.is_empty() {
            self.desk.out.object(&self.row(name, &self.ring, &self.history(name), self.held.changed_at));
            return Ok(());
        }
        let ring = self.ring.signed_by(name, &roles).map_err(unusable)?;
        if roles.contains(&Role::Access) && !ring.is_for(self.algorithm()) {
            self.desk.refuse("another_algorithm", &self.mismatch(name))?;
        }
        let now = self.desk.now();
        // Where functions cannot use the secret as it is, none has a copy that lacks the key.
        let mends = roles.contains(&Role::Access) && !self.ring.is_for(self.algorithm());
        if !mends {
            let ready_at = self.history(name).ready_at(self.held.changed_at);
            if now < ready_at {
                let message = format!("Functions may not know {name} before {ready_at}, and refuse what it signs.");
                self.desk.refuse("too_early", &message)?;
            }
            let known_at = ready_at + AUTHORIZER_CACHE;
            if algorithm == Algorithm::RS256 && now < known_at {
                self.desk.out.remark(&format!(
                    "API Gateway's JWT authorizer keeps the published keys for up to two hours. If you use it, it may \
                     refuse tokens of {name} until {known_at}."
                ));
            }
        }
        let mut notes = BTreeMap::new();
        for role in &roles {
            for (key, begins) in [(self.ring.signer(*role), false), (name, true)] {
                let history = notes.entry(key).or_insert_with(|| self.history(key));
                if begins { history.begins(*role) } else { history.stops(*role, now) }
            }
        }
        let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
        self.change(&format!("keys use {name} for {}", names.join(" and ")), &notes, &ring).await?;
        self.desk.out.object(&self.row(name, &ring, &self.history(name), self.held.changed_at));
        Ok(())
    }

    async fn retire(&self, name: &str) -> Result<(), Failure> {
        let algorithm = self.existing(name)?;
        let roles: Vec<_> = self.ring.roles(name).into_iter().map(Role::name).collect();
        if !roles.is_empty() {
            let message = format!(
                "{name} signs {} tokens. Let another key sign first, with `freshkey keys use`.",
                roles.join(" and ")
            );
            return Err(Failure::refused("key_in_use", message));
        }
        let imported = self.desk.app().config().imported_tokens.as_ref();
        if let Some(tokens) = imported.filter(|tokens| tokens.kid == name && self.desk.now() < tokens.until) {
            let message = format!("Imported refresh tokens are known by {name} until {}.", tokens.until);
            return Err(Failure::refused("key_in_use", message));
        }
        let spent_at = self.history(name).spent_at(algorithm, self.lifetimes(), self.held.changed_at);
        if let Some(spent_at) = spent_at.filter(|spent_at| self.desk.now() < *spent_at) {
            let message =
                format!("Tokens that {name} signed may be good until {spent_at}, and are refused without it.");
            self.desk.refuse("too_early", &message)?;
        }
        let ring = self.ring.without(name).map_err(unusable)?;
        self.change(&format!("keys retire {name}"), &BTreeMap::new(), &ring).await?;
        self.desk.out.object(&json!({ "name": name, "retired": true }));
        Ok(())
    }

    /// Records the act, notes what will be true of keys, and replaces the ring. The notes
    /// come first, because a key whose end was not noted could be retired too early. Those
    /// of an act that fails do no harm: they are about keys in use, or say less than before.
    async fn change(&self, act: &str, notes: &BTreeMap<&str, History>, ring: &Ring) -> Result<(), Failure> {
        self.desk.recorded(act, None).await?;
        for (name, history) in notes {
            self.secret.note(name, history).await?;
        }
        self.secret.replace(&self.held, ring.text()).await?;
        let gone = forgettable(self.held.histories.keys().map(String::as_str), ring);
        if let Err(failure) = self.secret.forget(&gone).await {
            self.desk.out.remark(&format!("The tags of keys that are gone are left. {failure}"));
        }
        Ok(())
    }

    fn existing(&self, name: &str) -> Result<Algorithm, Failure> {
        let missing = || Failure::refused("no_key", format!("The secret has no key {name}."));
        self.ring.algorithm(name).ok_or_else(missing)
    }

    fn history(&self, name: &str) -> History {
        self.held.histories.get(name).cloned().unwrap_or_else(History::unknown)
    }

    /// Returns the algorithm of the stack.
    fn algorithm(&self) -> Algorithm {
        self.desk.app().config().algorithm
    }

    fn lifetimes(&self) -> Lifetimes {
        Lifetimes::of(self.desk.app().config())
    }

    /// Says that functions do not use a ring in which this key signs access tokens.
    fn mismatch(&self, name: &str) -> String {
        let (found, expected) = (self.ring.algorithm(name), self.algorithm());
        let found = found.map(|found| format!("{found:?}")).unwrap_or_default();
        format!("{name} is for {found}, and the stack's JwtAlgorithm is {expected:?}: functions do not use the secret.")
    }

    /// Returns a key of `ring` as an object. The secret was last changed at `changed_at`.
    fn row(&self, name: &str, ring: &Ring, history: &History, changed_at: Timestamp) -> Value {
        let algorithm = ring.algorithm(name);
        let roles = ring.roles(name);
        let spent_at = algorithm.filter(|_| roles.is_empty());
        let spent_at = spent_at.and_then(|one| history.spent_at(one, self.lifetimes(), changed_at));
        json!({
            "name": name,
            "algorithm": algorithm.map(|algorithm| format!("{algorithm:?}")),
            "signs": roles.into_iter().map(Role::name).collect::<Vec<_>>(),
            "added_at": history.added_at.map(|at| at.to_string()),
            "ready_at": history.ready_at(changed_at).to_string(),
            "spent_at": spent_at.map(|at| at.to_string()),
        })
    }
}

fn unusable(fault: KeyError) -> Failure {
    Failure::refused("secret_unusable", format!("The functions cannot use such a secret: {fault}."))
}

fn no_pem(algorithm: Algorithm) -> Failure {
    let message = format!("The file is not a private key in PEM for {algorithm:?}, or the key is too weak.");
    Failure::refused("key_refused", message)
}

fn file(path: &Path) -> Result<SecretString, Failure> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| Failure::usage("no_file", format!("{}: {error}", path.display())))?;
    Ok(text.into())
}
