//! A guess at a password: counted before the hash, given back when it was right.

use std::sync::OnceLock;
use std::time::Duration;

use super::{App, Error};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::entropy;
use crate::limit::{AccountTag, Address, Counter};
use crate::session::Hash;
use crate::store::{StoreError, Tally};
use crate::token::KeyRing;
use crate::write::Write;

/// How long to wait where DynamoDB itself asks for fewer calls.
const THROTTLED: Duration = Duration::from_secs(1);

/// A guess at a password, made at a moment.
pub(super) struct Guess {
    at: Timestamp,
    /// What identifies it, so that it is counted once.
    attempt: Hash,
    by: Guesser,
    /// When the latest guess before this one was made; known once it is counted.
    before: OnceLock<Timestamp>,
}

/// What a guess is counted by.
enum Guesser {
    /// A device that has logged in to this account before: by itself alone.
    Known { device: Counter },
    /// Whoever else: by the account, and by the address that it comes from.
    Unknown { account: Counter, address: Counter, account_tag: AccountTag },
}

impl Guess {
    /// Failures at the account, or from the device.
    fn failures(&self) -> &Counter {
        match &self.by {
            Guesser::Known { device } => device,
            Guesser::Unknown { account, .. } => account,
        }
    }

    pub(super) fn is_from_known_device(&self) -> bool {
        matches!(self.by, Guesser::Known { .. })
    }
}

impl App {
    /// A guess at the password of this account, whether or not it exists.
    pub(super) fn guess(&self, ring: &KeyRing, email: &Email, client: &Client, device_token: Option<&str>) -> Guess {
        let at = self.now();
        let by = match self.known_device(ring, email, device_token, at) {
            Some(device) => Guesser::Known { device: Counter::device(&device, at) },
            None => Guesser::Unknown {
                account: Counter::account(email, at),
                address: Counter::address(&Address::of(&client.ip), at),
                account_tag: AccountTag::of(email),
            },
        };
        Guess { at, attempt: Hash::of(&[&entropy::bytes::<16>()]), by, before: OnceLock::new() }
    }

    /// The name of the device, if its token says that it has logged in to this
    /// account before. Any other token is as good as none.
    pub(super) fn known_device(
        &self,
        ring: &KeyRing,
        email: &Email,
        device_token: Option<&str>,
        now: Timestamp,
    ) -> Option<String> {
        let verified = self.config.device_tokens.verify(ring, device_token?, email, now);
        verified.inspect_err(|rejection| tracing::debug!(%rejection, "device token ignored")).ok()
    }

    /// Counts a guess that is about to be made, in one round trip.
    ///
    /// # Errors
    ///
    /// [`Error::RateLimited`] when it must not be made: over a limit, or where
    /// DynamoDB cannot keep up with the counting. [`Error::Unavailable`] when it
    /// could not be counted.
    pub(super) async fn count(&self, guess: &Guess) -> Result<(), Error> {
        let (failures, address) = tokio::join!(self.count_failures(guess), self.count_address(guess));
        if let (Ok(None), Ok(None)) = (&failures, &address) {
            return Ok(());
        }
        // What the address may not try says nothing about the account.
        if matches!(failures, Ok(None)) {
            logged(self.uncount_failures(guess).await);
        }
        // And what the account may not have tried is no failure of the address.
        if let (Ok(None), Guesser::Unknown { address, .. }) = (&address, &guess.by) {
            logged(self.store.uncount(address, None).await.map(drop));
        }
        let reason = match (&guess.by, &failures) {
            (_, Ok(None)) => "address",
            (Guesser::Known { .. }, _) => "device",
            (Guesser::Unknown { .. }, _) => "account",
        };
        let wait = throttled_or(failures)?.max(throttled_or(address)?);
        Err(self.limited(reason, wait.unwrap_or_default()))
    }

    /// Counts a registration that is about to be made.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    pub(super) async fn count_registration(&self, client: &Client) -> Result<(), Error> {
        let now = self.now();
        let counter = Counter::registrations(&Address::of(&client.ip), now);
        let counted = self.store.count(&counter, self.config.limits.registrations_per_address, None).await;
        match throttled_or(counted.map(|outcome| full(&counter, outcome, now)))? {
            None => Ok(()),
            Some(wait) => Err(self.limited("registrations", wait)),
        }
    }

    /// The password was right: failures start anew, and the address has not failed.
    pub(super) async fn give_back(&self, guess: &Guess) {
        let (reset, ()) = tokio::join!(self.store.reset(guess.failures()), self.uncount_address(guess));
        logged(reset);
    }

    /// Nobody learned whether the password is right.
    pub(super) async fn take_back(&self, guess: &Guess) {
        let (uncounted, ()) = tokio::join!(self.uncount_failures(guess), self.uncount_address(guess));
        logged(uncounted);
    }

    /// How long to wait, if the guess may not be made now.
    async fn count_failures(&self, guess: &Guess) -> Result<Option<Duration>, StoreError> {
        let (counter, now, guesses) = (guess.failures(), guess.at, self.config.limits.guesses);
        Ok(match self.store.count_guess(counter, &guesses.steps(), &guess.attempt, now).await? {
            Write::Done(before) => {
                if let Some(before) = before {
                    guess.before.get_or_init(|| before);
                }
                None
            }
            Write::Refused(Tally { tries, latest }) => {
                Some(guesses.wait(tries, latest, now).unwrap_or_else(|| counter.rest(now)))
            }
        })
    }

    async fn uncount_failures(&self, guess: &Guess) -> Result<(), StoreError> {
        self.store.uncount_guess(guess.failures(), &guess.attempt, guess.before.get().copied()).await
    }

    async fn count_address(&self, guess: &Guess) -> Result<Option<Duration>, StoreError> {
        let Guesser::Unknown { address, account_tag, .. } = &guess.by else { return Ok(None) };
        let limits = &self.config.limits;
        let accounts = Some((*account_tag, limits.accounts_per_address));
        let outcome = self.store.count(address, limits.failures_per_address, accounts).await?;
        Ok(full(address, outcome, self.now()))
    }

    async fn uncount_address(&self, guess: &Guess) {
        if let Guesser::Unknown { address, account_tag, .. } = &guess.by {
            logged(self.store.uncount(address, Some(*account_tag)).await.map(drop));
        }
    }

    fn limited(&self, reason: &'static str, wait: Duration) -> Error {
        self.record(Event::of(Act::LimitExceeded).because(reason));
        Error::RateLimited(wait)
    }
}

/// How long to wait until a counter that is full ends.
fn full(counter: &Counter, outcome: Write, now: Timestamp) -> Option<Duration> {
    (outcome == Write::Refused(())).then(|| counter.rest(now))
}

/// A counter that is written to faster than DynamoDB allows counts as full.
fn throttled_or(wait: Result<Option<Duration>, StoreError>) -> Result<Option<Duration>, Error> {
    match wait {
        Err(error) if error.is_throttling() => Ok(Some(THROTTLED)),
        wait => Ok(wait?),
    }
}

/// What cannot be given back stays counted, which is the safe side.
fn logged(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "a guess was not given back");
    }
}
