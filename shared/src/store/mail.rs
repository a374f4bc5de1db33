//! The outbox in the table: mails that are to be sent.
//!
//! A mail is taken by a lease and deleted once it was sent. A mailer that dies leaves a
//! lease, which runs out, so every mail is sent at least once.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::item::{self, Item, Reader, hash, number, text};
use super::{Store, StoreError, delete_member, deleted, put_member, refused, unavailable, updated, without_member};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::UserId;
use crate::mail::{Account, Kind, Mail, MailId};
use crate::session::Hash;
use crate::write::Write;

/// A page of the mails of a shard.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The mails that no mailer holds, in the order in which they are to be sent.
    pub waiting: Vec<Waiting>,
    /// When the oldest mail of the page was written, held or not.
    pub oldest: Option<Timestamp>,
    /// The mails that cannot be read, so that nobody can send them.
    pub unreadable: Vec<MailId>,
    /// The last mail of the page, if another page may follow.
    pub last: Option<MailId>,
}

/// A mail that waits for a mailer.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The mail.
    pub mail: Mail,
    /// Whether a mailer has taken it before, and did not finish.
    pub was_taken: bool,
}

/// A mailer's hold on a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The mailer that holds the mail, so that the SDK's retry after a lost answer
    /// finds its own lease.
    pub holder: Hash,
    /// When the hold ends, in milliseconds.
    pub until: Timestamp,
}

impl Store {
    /// Writes a mail by itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn put_mail(&self, mail: &Mail) -> Result<(), StoreError> {
        self.put_item(from_mail(mail)).await
    }

    /// Writes a request and the notice of it, if there is one, in one transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn put_mails(&self, request: &Mail, notice: Option<&Mail>) -> Result<(), StoreError> {
        let Some(notice) = notice else { return self.put_mail(request).await };
        match self.transact(vec![self.mail_member(request), self.mail_member(notice)]).await? {
            Write::Done(()) => Ok(()),
            Write::Refused(_) => Err(refused("TransactWriteItems")),
        }
    }

    /// Writes a mail as a member of a transaction.
    pub(super) fn mail_member(&self, mail: &Mail) -> Result<TransactWriteItem, StoreError> {
        put_member(self.put(from_mail(mail)))
    }

    /// Reads a page of `most` mails of a shard, beginning behind the mail `after`, and
    /// sorts them by whether a mailer holds them at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`] when an
    /// item's key cannot be read.
    pub async fn mails(
        &self,
        shard: u8,
        after: Option<&MailId>,
        most: i32,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(item::shard(shard)))
            .limit(most)
            .set_exclusive_start_key(after.map(item::mail_key))
            .send()
            .await
            .map_err(unavailable("Query"))?;
        let id = |item: &Item| Ok(MailId { shard, order: Reader(item).text("sk")?.to_owned() });
        let mut page = Page { last: answer.last_evaluated_key().map(id).transpose()?, ..Page::default() };
        for item in answer.items() {
            let id = id(item)?;
            let Ok((mail, leased_until)) = to_mail(item, id.clone()) else {
                page.unreadable.push(id);
                continue;
            };
            page.oldest = Some(page.oldest.map_or(mail.written_at, |oldest| oldest.min(mail.written_at)));
            if leased_until.is_none_or(|until| until <= now) {
                page.waiting.push(Waiting { mail, was_taken: leased_until.is_some() });
            }
        }
        Ok(page)
    }

    /// Takes a mail. [`Write::Refused`] when it is gone, or another mailer holds it at
    /// `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn lease_mail(&self, id: &MailId, lease: &Lease, now: Timestamp) -> Result<Write, StoreError> {
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item::mail_key(id)))
            .condition_expression(
                "attribute_exists(pk) AND (attribute_not_exists(leased_until) OR leased_until <= :now \
                 OR leased_by = :holder)",
            )
            .update_expression("SET leased_until = :until, leased_by = :holder")
            .expression_attribute_values(":now", number(now.millis()))
            .expression_attribute_values(":until", number(lease.until.millis()))
            .expression_attribute_values(":holder", hash(&lease.holder))
            .send()
            .await;
        updated(result)
    }

    /// Writes a mail again under a new id, which no mailer holds, and deletes the old one,
    /// in one transaction. The new item wakes the mailer; a change of the old one would
    /// not. [`Write::Refused`] when the old one is gone.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn rewrite_mail(&self, mail: &Mail) -> Result<Write, StoreError> {
        let old = self.delete(item::mail_key(&mail.id)).condition_expression("attribute_exists(pk)");
        let members = vec![delete_member(old), self.mail_member(&mail.renewed())];
        Ok(without_member(self.transact(members).await?))
    }

    /// Deletes a mail that was sent or is not to be sent, under the lease by which it
    /// was taken, or without one if nobody has taken it. [`Write::Refused`] when another
    /// mailer has taken it meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn delete_mail(&self, id: &MailId, lease: Option<&Lease>) -> Result<Write, StoreError> {
        let call = self.client.delete_item().table_name(&self.table).set_key(Some(item::mail_key(id)));
        let call = match lease {
            Some(lease) => call
                .condition_expression("attribute_not_exists(pk) OR leased_by = :holder")
                .expression_attribute_values(":holder", hash(&lease.holder)),
            None => call.condition_expression("attribute_not_exists(leased_by)"),
        };
        deleted(call.send().await)
    }
}

fn from_mail(mail: &Mail) -> Item {
    let mut item = item::mail_key(&mail.id);
    item.extend([
        ("kind".into(), text(mail.kind.name())),
        ("email".into(), text(mail.email.as_str())),
        ("email_key".into(), text(mail.email.key())),
        ("ip".into(), text(&mail.client.ip)),
        ("user_agent".into(), text(&mail.client.user_agent)),
        ("written_at".into(), number(mail.written_at.millis())),
        ("expires_at".into(), number(mail.expires_at.seconds())),
    ]);
    if let Some(Account { user_id, epoch }) = mail.account {
        item.insert("user_id".into(), text(user_id.to_string()));
        item.insert("epoch".into(), number(epoch));
    }
    item
}

/// Reads a mail, and until when a mailer holds it.
pub(super) fn to_mail(item: &Item, id: MailId) -> Result<(Mail, Option<Timestamp>), StoreError> {
    let item = Reader(item);
    let kind = item.text("kind")?;
    let user_id = item.optional("user_id", |value| UserId::parse(value.as_s().ok()?))?;
    let account = match user_id {
        Some(user_id) => Some(Account { user_id, epoch: item.number("epoch")? }),
        None => None,
    };
    let millis = |value: &AttributeValue| value.as_n().ok()?.parse().ok().map(Timestamp::from_millis);
    let mail = Mail {
        id,
        kind: Kind::ALL.into_iter().find(|known| known.name() == kind).ok_or(StoreError::Corrupt("kind"))?,
        email: Email::stored(item.text("email")?.to_owned(), item.text("email_key")?.to_owned()),
        account,
        client: Client { ip: item.text("ip")?.to_owned(), user_agent: item.text("user_agent")?.to_owned() },
        written_at: Timestamp::from_millis(item.number("written_at")?),
        expires_at: Timestamp::from_seconds(item.number("expires_at")?),
    };
    Ok((mail, item.optional("leased_until", millis)?))
}
