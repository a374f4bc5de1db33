//! Guesses at passwords. A guess is counted before the password is hashed, and given
//! back if it was right.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{App, Error};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::entropy;
use crate::limit::{self, Address, Counter, Tag};
use crate::session::Hash;
use crate::store::{Counted, StoreError, Tally};
use crate::token::{Device, KeyRing};
use crate::user::Credential;
use crate::write::Write;

/// How long a client must wait when DynamoDB throttles a counter.
const THROTTLED: Duration = Duration::from_secs(1);

/// A guess at a password that is about to be made.
struct Guess {
    at: Timestamp,
    /// Identifies the guess, so that it is counted once.
    attempt: Hash,
    guesser: Guesser,
}

/// Who makes a guess, with the counters that count it.
enum Guesser {
    /// A device that has logged in as this user with the current password: by
    /// itself alone.
    Known { device: Counter },
    /// A device that has logged in with an earlier one: with all such devices.
    Outdated { devices: Counter },
    /// Any other client. Its guess is counted for the account and for the client's address.
    Unknown { account: Counter, address: Counter, tag: Tag },
}

/// A guess that was counted. It is given back if the password was right, taken back if
/// the check gave no result, and dropped if the password was wrong.
#[must_use]
pub(super) struct CountedGuess {
    guess: Guess,
    /// The count for the account or the device.
    failures: Counted,
    /// When the window of the address ends, if the guess was counted for an address.
    address_until: Option<Timestamp>,
}

/// A limit that was reached.
struct Limit {
    reason: &'static str,
    wait: Duration,
}

impl Guesser {
    fn known(device: &Device) -> Self {
        Self::Known { device: Counter::device(&device.id) }
    }

    fn unknown(email: &Email, client: &Client) -> Self {
        Self::Unknown {
            account: Counter::account(email),
            address: Counter::address(&Address::of(&client.ip)),
            tag: Tag::of_account(email),
        }
    }

    /// Returns the guesser for a guess from `device` at the account of `email`, whose
    /// credential is `credential` if the account exists.
    fn on(device: &Device, credential: Option<&Credential>, email: &Email, client: &Client) -> Self {
        match credential {
            Some(credential)
                if credential.user_id == device.user_id && device.password_changed_at >= credential.devices_since =>
            {
                // The token names the password, not a time of its own: a login that raced
                // the change is outdated as well, whatever the clocks say.
                if device.password_changed_at == credential.password_changed_at {
                    Self::known(device)
                } else {
                    Self::Outdated { devices: Counter::outdated_devices(device.user_id) }
                }
            }
            _ => Self::unknown(email, client),
        }
    }

    /// Returns the counter of failures at the account or from the device.
    fn failures(&self) -> &Counter {
        match self {
            Self::Known { device } => device,
            Self::Outdated { devices } => devices,
            Self::Unknown { account, .. } => account,
        }
    }

    /// Returns the name of [`failures`](Self::failures) in the log.
    fn name(&self) -> &'static str {
        match self {
            Self::Known { .. } | Self::Outdated { .. } => "device",
            Self::Unknown { .. } => "account",
        }
    }
}

impl CountedGuess {
    /// Returns whether the client's device token is still good, so that it needs no new one.
    pub(super) fn is_from_known_device(&self) -> bool {
        matches!(self.guess.guesser, Guesser::Known { .. })
    }
}

impl App {
    /// Counts a guess at the password of the account with this address, and
    /// returns the account's credential, if there is one. Takes one round trip.
    ///
    /// A device token names the device to count for, but only the credential tells
    /// whether the account accepts that device. If it does not, the first count is
    /// taken back and the guess is counted where it belongs, in a second round trip.
    ///
    /// # Errors
    ///
    /// [`Error::RateLimited`] when a limit is reached or DynamoDB throttles the
    /// counter; [`Error::Unavailable`] when the guess cannot be counted or the
    /// credential cannot be read.
    pub(super) async fn count_guess(
        &self,
        ring: &KeyRing,
        email: &Email,
        client: &Client,
        device_token: Option<&str>,
    ) -> Result<(CountedGuess, Option<Credential>), Error> {
        let at = self.now();
        let device = device_token.and_then(|token| self.device(ring, token, at));
        let presumed = match &device {
            Some(device) => Guesser::known(device),
            None => Guesser::unknown(email, client),
        };
        let guess = Guess::new(at, presumed);
        let (counted, credential) = tokio::join!(self.count(guess), self.store.credential(email));
        let (credential, counted) = match (credential, counted) {
            (Ok(credential), counted) => (credential, counted),
            (Err(error), Ok(Write::Done(counted))) => {
                self.take_back(counted).await;
                return Err(error.into());
            }
            (Err(_), Ok(Write::Refused(limit))) => return Err(self.limited(limit)),
            (Err(_), Err(error)) => return Err(error.into()),
        };
        let actual = device.map(|device| Guesser::on(&device, credential.as_ref(), email, client));
        let counted = match actual {
            None | Some(Guesser::Known { .. }) => counted,
            Some(actual) => {
                let take_back = async {
                    if let Ok(Write::Done(counted)) = counted {
                        self.take_back(counted).await;
                    }
                };
                tokio::join!(self.count(Guess::new(at, actual)), take_back).0
            }
        };
        match counted? {
            Write::Done(counted) => Ok((counted, credential)),
            Write::Refused(limit) => Err(self.limited(limit)),
        }
    }

    /// Counts a registration that is about to be made.
    ///
    /// # Errors
    ///
    /// Those of [`count_request`](Self::count_request).
    pub(super) async fn count_registration(&self, client: &Client) -> Result<(), Error> {
        let most = self.config.limits.registrations_per_address;
        self.count_of_address(client, Counter::registrations, most, "registrations").await
    }

    /// Counts a request for the address of its client.
    ///
    /// # Errors
    ///
    /// Those of [`count_request`](Self::count_request).
    pub(super) async fn count_of_address(
        &self,
        client: &Client,
        counter: impl Fn(&Address) -> Counter,
        most: u64,
        reason: &'static str,
    ) -> Result<(), Error> {
        self.count_request(&counter(&Address::of(&client.ip)), most, reason).await
    }

    /// Counts a request that is about to be served.
    ///
    /// # Errors
    ///
    /// [`Error::RateLimited`] when the counter has reached `most` or DynamoDB throttles
    /// it; [`Error::Unavailable`] when the request cannot be counted.
    pub(super) async fn count_request(&self, counter: &Counter, most: u64, reason: &'static str) -> Result<(), Error> {
        let now = self.now();
        // Boxed, because the futures of the SDK are large.
        let counted = Box::pin(self.store.count(counter, most, None, now)).await;
        let counted = counted.map(|outcome| wait_until_end(outcome, now));
        match throttled_is_full(counted)? {
            Write::Done(()) => Ok(()),
            Write::Refused(wait) => Err(self.limited(Limit { reason, wait })),
        }
    }

    /// Gives back a guess that was right: resets the failures, and no longer counts the
    /// guess for the address.
    pub(super) async fn give_back(&self, counted: CountedGuess) {
        let reset = self.store.reset(counted.guess.guesser.failures(), counted.failures.until);
        let (reset, ()) = tokio::join!(reset, self.uncount_address(&counted));
        logged(reset);
    }

    /// Takes back a guess whose check gave no result.
    pub(super) fn take_back(&self, counted: CountedGuess) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let CountedGuess { guess, failures, .. } = &counted;
            let uncounted = self.store.uncount_guess(guess.guesser.failures(), &guess.attempt, *failures);
            let (uncounted, ()) = tokio::join!(uncounted, self.uncount_address(&counted));
            logged(uncounted);
        })
    }

    /// Returns the device that holds this token, or `None` if the token is invalid.
    fn device(&self, ring: &KeyRing, token: &str, now: Timestamp) -> Option<Device> {
        let verified = self.config.device_tokens.verify(ring, token, now);
        verified.inspect_err(|rejection| tracing::debug!(%rejection, "device token ignored")).ok()
    }

    /// Counts a guess everywhere it belongs, or nowhere. Boxed, like
    /// [`take_back`](Self::take_back), because the futures of the SDK are large.
    fn count(&self, guess: Guess) -> BoxFuture<'_, Result<Write<CountedGuess, Limit>, StoreError>> {
        Box::pin(async move {
            let (failures, address) = tokio::join!(self.count_failures(&guess), self.count_address(&guess));
            if let (Ok(Write::Done(failures)), Ok(Write::Done(address_until))) = (&failures, &address) {
                let (failures, address_until) = (*failures, *address_until);
                return Ok(Write::Done(CountedGuess { guess, failures, address_until }));
            }
            // A guess that the address may not make is not a failure at the account.
            if let Ok(Write::Done(counted)) = failures {
                logged(self.store.uncount_guess(guess.guesser.failures(), &guess.attempt, counted).await);
            }
            // A guess that the account does not allow is not a failure of the address.
            if let (Ok(Write::Done(Some(until))), Guesser::Unknown { address, .. }) = (&address, &guess.guesser) {
                logged(self.store.uncount(address, None, *until).await);
            }
            let reason = if matches!(failures, Ok(Write::Done(_))) { "address" } else { guess.guesser.name() };
            let waits = [throttled_is_full(failures)?, throttled_is_full(address)?];
            let waits = waits.into_iter().filter_map(|outcome| match outcome {
                Write::Done(()) => None,
                Write::Refused(wait) => Some(wait),
            });
            Ok(Write::Refused(Limit { reason, wait: waits.max().unwrap_or_default() }))
        })
    }

    /// Counts a guess for the account or the device. [`Write::Refused`] carries how long to wait.
    async fn count_failures(&self, guess: &Guess) -> Result<Write<Counted, Duration>, StoreError> {
        let (counter, now, guesses) = (guess.guesser.failures(), guess.at, self.config.limits.guesses);
        Ok(match self.store.count_guess(counter, &guesses.steps(), &guess.attempt, now).await? {
            Write::Done(counted) => Write::Done(counted),
            Write::Refused(Tally { tries, latest, until }) => {
                let rest = limit::until(until, now);
                Write::Refused(guesses.wait(tries, latest, now).map_or(rest, |pause| pause.min(rest)))
            }
        })
    }

    /// Counts a guess for the address, if its guesser is unknown. [`Write::Done`]
    /// carries when the window of the address ends, if the guess was counted;
    /// [`Write::Refused`] carries how long to wait.
    async fn count_address(&self, guess: &Guess) -> Result<Write<Option<Timestamp>, Duration>, StoreError> {
        let Guesser::Unknown { address, tag, .. } = &guess.guesser else { return Ok(Write::Done(None)) };
        let limits = &self.config.limits;
        let accounts = Some((*tag, limits.accounts_per_address));
        let counted = self.store.count(address, limits.failures_per_address, accounts, guess.at).await?;
        Ok(match wait_until_end(counted, guess.at) {
            Write::Done(until) => Write::Done(Some(until)),
            Write::Refused(wait) => Write::Refused(wait),
        })
    }

    async fn uncount_address(&self, counted: &CountedGuess) {
        if let (Guesser::Unknown { address, tag, .. }, Some(until)) = (&counted.guess.guesser, counted.address_until) {
            logged(self.store.uncount(address, Some(*tag), until).await);
        }
    }

    fn limited(&self, Limit { reason, wait }: Limit) -> Error {
        self.record(Event::of(Act::LimitExceeded).because(reason));
        Error::RateLimited(wait)
    }
}

impl Guess {
    fn new(at: Timestamp, guesser: Guesser) -> Self {
        Self { at, attempt: Hash::of(&[&entropy::bytes::<16>()]), guesser }
    }
}

/// Converts the end of a full counter's window to the time until then.
fn wait_until_end(outcome: Write<Timestamp, Timestamp>, now: Timestamp) -> Write<Timestamp, Duration> {
    match outcome {
        Write::Done(until) => Write::Done(until),
        Write::Refused(until) => Write::Refused(limit::until(until, now)),
    }
}

/// Treats a counter that DynamoDB throttles as full.
fn throttled_is_full<T>(outcome: Result<Write<T, Duration>, StoreError>) -> Result<Write<(), Duration>, StoreError> {
    match outcome {
        Ok(Write::Done(_)) => Ok(Write::Done(())),
        Ok(Write::Refused(wait)) => Ok(Write::Refused(wait)),
        Err(error) if error.is_throttling() => Ok(Write::Refused(THROTTLED)),
        Err(error) => Err(error),
    }
}

/// Logs a failure to give back a guess. The guess stays counted, which is the safe side.
fn logged(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "a guess was not given back");
    }
}
