//! Scans, for operators. A scan reads every row of the table, page by page. It is not
//! consistent: it may miss what is written while it runs.

use aws_sdk_dynamodb::types::AttributeValue;

use super::imported::to_imported;
use super::item::{self, Item, PROFILE, Reader, SESSION, number, text};
use super::mail::to_mail;
use super::proof::to_proof;
use super::session::to_session;
use super::user::to_user;
use super::{Store, StoreError, unavailable};
use crate::clock::Timestamp;
use crate::imported::ImportedToken;
use crate::mail::{Mail, MailId};
use crate::proof::Proof;
use crate::session::Session;
use crate::user::User;

/// Which rows a scan returns. It reads all of them.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    /// The users.
    Users,
    /// The users and the sessions.
    Accounts,
    /// The sessions that have expired at this moment, which the table's TTL has not
    /// deleted yet.
    Expired(Timestamp),
}

/// A place in a scan, from which it goes on.
#[derive(Clone, Debug)]
pub struct Place(Item);

/// A page of a scan.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// The users.
    pub users: Vec<User>,
    /// The sessions.
    pub sessions: Vec<Session>,
    /// The number of rows that cannot be read.
    pub unreadable: usize,
    /// Where the next page begins, if there is one.
    pub next: Option<Place>,
}

/// What the table holds about a user outside the user's own partition and the
/// credential.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// The mails that wait to be sent.
    pub mails: Vec<Mail>,
    /// The links that were mailed.
    pub proofs: Vec<Proof>,
    /// The imported refresh tokens.
    pub imported_tokens: Vec<ImportedToken>,
}

/// A filter: an expression, and the values that it uses.
struct Filter {
    expression: &'static str,
    values: Vec<(&'static str, AttributeValue)>,
}

impl Store {
    /// Reads a page of a scan for `rows`, from `place` on, or from the beginning.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn scan(&self, rows: Rows, place: Option<Place>) -> Result<Accounts, StoreError> {
        let profile = || (":profile", text(PROFILE));
        let session = || (":session", text(SESSION));
        let filter = match rows {
            Rows::Users => Filter { expression: "sk = :profile", values: vec![profile()] },
            Rows::Accounts => {
                Filter { expression: "sk = :profile OR begins_with(sk, :session)", values: vec![profile(), session()] }
            }
            Rows::Expired(now) => Filter {
                expression: "begins_with(sk, :session) AND expires_at <= :now",
                values: vec![session(), (":now", number(now.seconds()))],
            },
        };
        let (items, next) = self.scan_page(&filter, place).await?;
        let mut page = Accounts { next, ..Accounts::default() };
        for item in &items {
            let is_user = Reader(item).text("sk").is_ok_and(|sk| sk == PROFILE);
            match (is_user, to_user(item), to_session(item)) {
                (true, Ok(user), _) => page.users.push(user),
                (false, _, Ok(session)) => page.sessions.push(session),
                _ => page.unreadable += 1,
            }
        }
        Ok(page)
    }

    /// Returns what a scan of the whole table finds about a user in the outbox, among the
    /// proofs and among the imported tokens.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`] when an
    /// item cannot be read.
    pub async fn traces(&self, user: &User) -> Result<Traces, StoreError> {
        let filter = Filter {
            expression: "(begins_with(pk, :mail) OR begins_with(pk, :proof) OR begins_with(pk, :imported)) \
                         AND (user_id = :user OR (email_key = :email_key AND attribute_not_exists(user_id)))",
            values: vec![
                (":mail", text(item::MAIL)),
                (":proof", text(item::PROOF_PARTITION)),
                (":imported", text(item::IMPORTED_PARTITION)),
                (":user", text(user.id.to_string())),
                (":email_key", text(user.email.key())),
            ],
        };
        let (mut traces, mut place) = (Traces::default(), None);
        loop {
            let (items, next) = self.scan_page(&filter, place).await?;
            for found in &items {
                if let Some(token_hash) = item::token_hash(found) {
                    traces.proofs.push(to_proof(found, token_hash)?);
                } else if let Some(name) = item::imported_name(found) {
                    traces.imported_tokens.push(to_imported(found, name)?);
                } else {
                    let order = Reader(found).text("sk")?.to_owned();
                    traces.mails.push(to_mail(found, MailId { shard: item::to_shard(found)?, order })?.0);
                }
            }
            place = next;
            if place.is_none() {
                return Ok(traces);
            }
        }
    }

    async fn scan_page(&self, filter: &Filter, place: Option<Place>) -> Result<(Vec<Item>, Option<Place>), StoreError> {
        let mut call = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression(filter.expression)
            .set_exclusive_start_key(place.map(|Place(key)| key));
        for (name, value) in &filter.values {
            call = call.expression_attribute_values(*name, value.clone());
        }
        let page = call.send().await.map_err(unavailable("Scan"))?;
        Ok((page.items.unwrap_or_default(), page.last_evaluated_key.map(Place)))
    }
}
