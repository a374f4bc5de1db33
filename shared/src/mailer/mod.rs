//! The mailer: works through the outbox and sends what is in it.
//!
//! It takes a mail by a lease, looks at the account, decides, sends, and deletes the
//! mail. Killed anywhere before the end, it leaves a lease that runs out, so every mail
//! is sent at least once.
//!
//! In a flood of requests for one recipient, the first that is dropped tells what becomes
//! of the others. They are set aside, and deleted after the mails of everybody else.

mod decision;
mod letter;
mod ses;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::config::SharedHttpClient;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use secrecy::SecretString;
use serde::Serialize;
use tokio::time::Instant;
use tracing::Instrument;

use self::decision::{Decision, Facts, Link, Reason, decide};
use self::letter::Letter;
use self::ses::{Failure, Ses};
use crate::aws;
use crate::clock::{Clock, Timestamp};
use crate::config::MailerConfig;
use crate::email::Email;
use crate::entropy;
use crate::id::UserId;
use crate::limit::{Counter, Tag, until};
use crate::mail::{Kind, Mail, MailId, SHARDS};
use crate::metrics::{self, Metric};
use crate::proof::{MailToken, Proof, Purpose};
use crate::session::Hash;
use crate::store::{Lease, Store, StoreError};
use crate::user::{Credential, User};
use crate::write::Write;

/// How long a mailer may take for one mail. It is longer than all calls for one mail
/// together may take.
const LEASE: Duration = Duration::from_secs(60);
/// How long a mailer takes on new work. What it has taken by then is done before its
/// function ends after 60 seconds (template.yaml), unless AWS is slow.
const PATIENCE: Duration = Duration::from_secs(45);
/// How many mails of a shard are read at a time.
const PAGE: i32 = 100;
/// How many mails of a shard are worked on at a time.
const PARALLEL: usize = 4;
/// How many further mails, after the first, a recipient may get on request within an
/// hour and within a day. There is always a first one in an hour, so that no flood keeps
/// the owner of an account from a reset.
const FURTHER_MAILS: [u64; 2] = [2, 10];
/// How many notices of one kind a user gets within an hour. The first ones always go
/// out, so nobody can hide what they did; the limit keeps a user who causes notices in a
/// loop from using up what the account may send.
const NOTICES: u64 = 10;

/// Sends the mails of the outbox.
pub struct Mailer {
    config: MailerConfig,
    clock: Arc<dyn Clock>,
    store: Store,
    ses: Ses,
}

/// What a mailer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The mails that were sent.
    pub sent: usize,
    /// The mails that are not to be sent any more.
    pub dropped: usize,
    /// The mails that SES refused for good.
    pub refused: usize,
    /// The mails that were left for later.
    pub left: usize,
}

/// What became of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    Dropped(Reason),
    Failed(Failure),
    /// The table did not answer.
    Left(String),
}

/// One shard, during one pass.
struct Shard<'a> {
    pass: &'a Pass,
    number: u8,
    /// Whether SES has asked to send less.
    is_throttled: AtomicBool,
    /// The requests that are excess: those of a kind to a recipient, by the key of the
    /// address, that were written before this time.
    flooded: Mutex<HashMap<(Kind, String), Timestamp>>,
    /// The excess that was set aside. Nobody has taken it.
    excess: Mutex<Vec<MailId>>,
}

/// One pass through the outbox.
struct Pass {
    holder: Hash,
    deadline: Instant,
    report: Mutex<Report>,
    oldest: Mutex<Option<Timestamp>>,
    /// Whether a shard could not be read.
    is_blind: AtomicBool,
}

impl Mailer {
    /// Returns a mailer with these settings. `http_client` replaces the SDK's own, for
    /// tests.
    pub async fn connect(
        config: MailerConfig,
        clock: Arc<dyn Clock>,
        http_client: Option<SharedHttpClient>,
    ) -> Arc<Self> {
        let endpoint = config.table_endpoint.as_deref();
        let sdk = aws::load(http_client, config.patience);
        let store = Store::with_sdk(&sdk, &config.table_name, endpoint);
        Arc::new(Self { store, ses: Ses::new(&sdk, &config), clock, config })
    }

    /// Works through the outbox: sends what is to be sent, and deletes the rest.
    /// `request_id` names the invocation in the log. What cannot be sent now is left,
    /// and logged.
    pub async fn work(&self, request_id: &str) -> Report {
        self.work_for(PATIENCE, request_id).await
    }

    /// Works through the outbox as [`work`](Self::work) does, but takes on nothing more
    /// after `patience`.
    pub async fn work_for(&self, patience: Duration, request_id: &str) -> Report {
        let pass = Pass {
            holder: Hash::of(&[b"mailer:", &entropy::bytes::<32>()]),
            deadline: Instant::now() + patience,
            report: Mutex::default(),
            oldest: Mutex::default(),
            is_blind: AtomicBool::default(),
        };
        let work = async {
            join_all((0..SHARDS).map(|number| self.work_shard(Shard::new(&pass, number)))).await;
            let now = self.clock.now();
            let oldest = lock(&pass.oldest).unwrap_or(now);
            // Without the metric, the alarm goes off.
            if !pass.is_blind.load(Ordering::Relaxed) {
                metrics::oldest_mail(until(now, oldest));
            }
        };
        let span = tracing::info_span!("pass", request.id = request_id);
        metrics::scope(&self.config.table_name, || self.clock.now(), work).instrument(span).await;
        *lock(&pass.report)
    }

    async fn work_shard(&self, shard: Shard<'_>) {
        let mut after = None;
        while shard.goes_on() {
            let page = match self.store.mails(shard.number, after.as_ref(), PAGE, self.clock.now()).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(mail.shard = shard.number, %error, "the mails of a shard cannot be read");
                    shard.pass.is_blind.store(true, Ordering::Relaxed);
                    break;
                }
            };
            shard.saw(page.oldest);
            for id in &page.unreadable {
                // It is left to expire: a later version of the mailer may be able to read it.
                tracing::error!(mail.shard = id.shard, mail.id = id.order, "a mail in the outbox cannot be read");
            }
            let deliveries = page.waiting.iter().map(|waiting| async {
                if waiting.was_taken || !shard.sets_aside(&waiting.mail) {
                    self.deliver(&shard, &waiting.mail).await;
                }
            });
            stream::iter(deliveries).for_each_concurrent(PARALLEL, |delivery| delivery).await;
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        self.drop_excess(&shard).await;
    }

    /// Takes a mail, and sends or drops it. What cannot be done now is left.
    async fn deliver(&self, shard: &Shard<'_>, mail: &Mail) {
        if !shard.goes_on() {
            return;
        }
        if let Err(error) = self.try_deliver(shard, mail).await {
            shard.pass.record(mail, None, &Outcome::Left(error.to_string()));
        }
    }

    async fn try_deliver(&self, shard: &Shard<'_>, mail: &Mail) -> Result<(), StoreError> {
        let now = self.clock.now();
        let lease = Lease { holder: shard.pass.holder, until: now + LEASE };
        if self.store.lease_mail(&mail.id, &lease, now).await? == Write::Refused(()) {
            return Ok(());
        }
        let facts = self.facts(mail).await?;
        let outcome = self.settle(shard, mail, &facts, now).await?;
        shard.pass.record(mail, facts.user_id().or(mail.account.map(|account| account.user_id)), &outcome);
        if outcome.is_final() {
            match self.store.delete_mail(&mail.id, Some(&lease)).await? {
                // If it is refused, the lease ran out, and another mailer has the mail.
                Write::Done(()) | Write::Refused(()) => {}
            }
        }
        Ok(())
    }

    /// Sends or drops a mail, given what the table said after `now`.
    async fn settle(
        &self,
        shard: &Shard<'_>,
        mail: &Mail,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        let (to, link) = match decide(mail, facts, now) {
            Decision::Send { to, link } => (to, link),
            Decision::Drop(reason) => {
                let holds_for_all = mail.kind == Kind::Reset && matches!(reason, Reason::NoAccount | Reason::Disabled);
                if holds_for_all {
                    shard.flood(mail, now);
                }
                return Ok(Outcome::Dropped(reason));
            }
        };
        let Some(mailbox) = ses::mailbox(&to) else { return Ok(Outcome::Dropped(Reason::Unmailable)) };
        if let Some(until) = self.over_limit(mail).await? {
            shard.flood(mail, until);
            return Ok(Outcome::Dropped(Reason::OverLimit));
        }
        let url = match link {
            Some(link) => Some(self.new_link(link, to).await?),
            None => None,
        };
        let sent = match Letter::write(mail, &self.config.app_name, url.as_ref()) {
            Ok(letter) => self.ses.send(mailbox, letter).await,
            Err(error) => Err(error.into()),
        };
        Ok(match sent {
            Ok(()) => Outcome::Sent,
            Err(failure) => {
                if matches!(failure, Failure::Throttled(_)) {
                    shard.is_throttled.store(true, Ordering::Relaxed);
                }
                Outcome::Failed(failure)
            }
        })
    }

    /// Reads what the decision about a mail depends on.
    async fn facts(&self, mail: &Mail) -> Result<Facts, StoreError> {
        let user = async {
            match mail.account {
                Some(account) if !mail.kind.is_notice() => self.store.user(account.user_id).await,
                _ => Ok(None),
            }
        };
        let holder = async {
            match mail.kind {
                Kind::Reset | Kind::Change => self.holder(&mail.email).await,
                _ => Ok(None),
            }
        };
        let (user, holder) = tokio::join!(user, holder);
        Ok(Facts { user: user?, holder: holder? })
    }

    /// Reads the account that has an address.
    async fn holder(&self, email: &Email) -> Result<Option<(User, Credential)>, StoreError> {
        let Some(credential) = self.store.credential(email).await? else { return Ok(None) };
        let user = self.store.user(credential.user_id).await?;
        // The account may have moved between the two reads.
        Ok(user.filter(|user| user.email.key() == email.key()).map(|user| (user, credential)))
    }

    /// Makes the token of a link, and writes its proof.
    async fn new_link(&self, link: Link, to: Email) -> Result<SecretString, StoreError> {
        let page = match link.purpose {
            Purpose::Reset { .. } => &self.config.reset_url,
            Purpose::Verify { .. } | Purpose::Change { .. } => &self.config.confirm_url,
        };
        let token = MailToken::random();
        self.store.put_proof(&Proof::new(&token, link.user_id, to, link.purpose, self.clock.now())).await?;
        Ok(letter::url(page, &token.expose()))
    }

    /// Counts a mail that is about to be sent. Returns until when its recipient gets no
    /// other, if there were too many.
    async fn over_limit(&self, mail: &Mail) -> Result<Option<Timestamp>, StoreError> {
        if mail.kind.is_notice() {
            let Some(account) = mail.account else { return Ok(None) };
            let most = if mail.kind == Kind::NewDevice { 1 } else { NOTICES };
            return self.count(&Counter::notices_to(account.user_id, mail.kind), most, mail).await;
        }
        let counter = Counter::first_mail_to(&mail.email, mail.kind);
        let Some(first) = self.count(&counter, 1, mail).await? else { return Ok(None) };
        for (counter, most) in Counter::more_mails_to(&mail.email, mail.kind).iter().zip(FURTHER_MAILS) {
            if let Some(until) = self.count(counter, most, mail).await? {
                return Ok(Some(until.min(first)));
            }
        }
        Ok(None)
    }

    /// Counts a mail once, however often it is tried. Returns the end of the counter's
    /// window if it holds `most` other mails.
    async fn count(&self, counter: &Counter, most: u64, mail: &Mail) -> Result<Option<Timestamp>, StoreError> {
        let tag = (Tag::of_mail(&mail.id), most);
        Ok(match self.store.count(counter, u64::MAX, Some(tag), self.clock.now()).await? {
            Write::Done(_) => None,
            Write::Refused(until) => Some(until),
        })
    }

    /// Deletes the requests that were set aside, as long as there is time.
    async fn drop_excess(&self, shard: &Shard<'_>) {
        let excess = std::mem::take(&mut *lock(&shard.excess));
        let deletions = excess.iter().map(|id| async {
            if !shard.pass.is_over() && self.store.delete_mail(id, None).await == Ok(Write::Done(())) {
                shard.pass.dropped();
            }
        });
        stream::iter(deletions).for_each_concurrent(PARALLEL, |deletion| deletion).await;
        if !excess.is_empty() {
            tracing::info!(mail.shard = shard.number, mails = excess.len(), "mails dropped, as others like them were");
        }
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Outcome {
    /// Returns whether there is nothing more to be done with the mail.
    fn is_final(&self) -> bool {
        matches!(self, Self::Sent | Self::Dropped(_) | Self::Failed(Failure::Refused(_)))
    }
}

impl Pass {
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Logs and counts what became of a mail of this user.
    fn record(&self, mail: &Mail, user_id: Option<UserId>, outcome: &Outcome) {
        macro_rules! log {
            ($level:ident, $reason:expr, $message:literal) => {
                tracing::$level!(
                    mail.kind = mail.kind.name(),
                    mail.shard = mail.id.shard,
                    mail.id = mail.id.order,
                    user.id = user_id.map(tracing::field::display),
                    reason = $reason,
                    $message
                )
            };
        }
        match outcome {
            Outcome::Sent => {
                metrics::count(Metric::MailsSent);
                lock(&self.report).sent += 1;
                log!(info, None::<&str>, "mail sent");
            }
            Outcome::Dropped(reason) => {
                self.dropped();
                log!(info, Some(tracing::field::display(reason)), "mail dropped");
            }
            Outcome::Failed(Failure::Refused(fault)) => {
                metrics::count(Metric::MailsRefused);
                lock(&self.report).refused += 1;
                log!(warn, Some(&fault.code), "mail refused by SES");
            }
            Outcome::Failed(
                Failure::Misconfigured(fault) | Failure::Throttled(fault) | Failure::Unavailable(fault),
            ) => {
                lock(&self.report).left += 1;
                fault.report("ses:SendEmail", None);
                log!(warn, Some(&fault.code), "mail left for later");
            }
            Outcome::Left(error) => {
                lock(&self.report).left += 1;
                log!(warn, Some(error), "mail left for later");
            }
        }
    }

    fn dropped(&self) {
        metrics::count(Metric::MailsDropped);
        lock(&self.report).dropped += 1;
    }
}

impl<'a> Shard<'a> {
    fn new(pass: &'a Pass, number: u8) -> Self {
        Self { pass, number, is_throttled: AtomicBool::default(), flooded: Mutex::default(), excess: Mutex::default() }
    }

    /// Returns whether more work may be taken on.
    fn goes_on(&self) -> bool {
        !self.is_throttled.load(Ordering::Relaxed) && !self.pass.is_over()
    }

    /// Notes when the oldest mail of a page was written.
    fn saw(&self, oldest: Option<Timestamp>) {
        let mut known = lock(&self.pass.oldest);
        *known = known.into_iter().chain(oldest).min();
    }

    /// Notes that requests like this one are excess if they were written before `end`.
    fn flood(&self, mail: &Mail, end: Timestamp) {
        lock(&self.flooded).insert((mail.kind, mail.email.key().to_owned()), end);
    }

    /// Sets a mail aside if it is excess. Returns whether it is.
    fn sets_aside(&self, mail: &Mail) -> bool {
        let like = (mail.kind, mail.email.key().to_owned());
        let is_excess =
            !mail.kind.is_notice() && lock(&self.flooded).get(&like).is_some_and(|end| mail.written_at < *end);
        if is_excess {
            lock(&self.excess).push(mail.id.clone());
        }
        is_excess
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
