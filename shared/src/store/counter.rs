//! Counters. The write that raises a counter has a condition that says whether it may
//! be raised, so two requests cannot both take the last place.
//!
//! A counter's window begins with its first count. Once its `expires_at` has passed, a
//! counter is treated as absent, even if DynamoDB has not deleted it yet: the next
//! count starts a new window.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::item::{self, Item, Reader, hash, number, to_hash};
use super::{Store, StoreError, deleted, refused, unavailable, updated};
use crate::clock::Timestamp;
use crate::limit::{Counter, Step, Tag};
use crate::session::Hash;
use crate::write::Write;

/// How often a count is attempted when an expired counter changes between the two
/// writes of the count. Only another request's restart, which happens once per window,
/// or DynamoDB's own deletion can come between them.
const TRIES: usize = 3;

/// A guess that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// When the window in which the guess was counted ends.
    pub until: Timestamp,
    /// When the previous guess in this window was made. `None` if there was none, or if
    /// the answer that had its time was lost.
    pub before: Option<Timestamp>,
}

/// The guesses that a counter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The number of guesses.
    pub tries: u64,
    /// When the latest guess was made.
    pub latest: Timestamp,
    /// When the window of the counter ends.
    pub until: Timestamp,
}

/// What a counter of any kind holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterState {
    /// The number that was counted.
    pub tries: u64,
    /// When the latest guess was made. `None` for a counter of anything else.
    pub latest: Option<Timestamp>,
    /// The number of accounts that the guesses were at, where they are told apart.
    pub accounts: u64,
    /// When the window of the counter ends.
    pub until: Timestamp,
}

/// One count, to be added to an open window or to start a new one.
struct Count<'a> {
    counter: &'a Counter,
    now: Timestamp,
    /// The condition for a counter whose window is open.
    rule: String,
    /// The values that only the rule uses.
    values: Vec<(String, AttributeValue)>,
    /// The attributes that the count sets.
    set: Vec<(&'static str, AttributeValue)>,
    /// The attributes that the count adds to.
    add: Vec<(&'static str, AttributeValue)>,
}

impl Store {
    /// Counts a guess at `now`, if one of `steps` allows it. `attempt` identifies the
    /// guess, so that the SDK's retry after a lost answer does not count it again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails, or when an expired
    /// counter keeps changing; [`StoreError::Corrupt`] when the counter cannot be read.
    pub async fn count_guess(
        &self,
        counter: &Counter,
        steps: &[Step],
        attempt: &Hash,
        now: Timestamp,
    ) -> Result<Write<Counted, Tally>, StoreError> {
        let (mut rules, mut values) = (Vec::new(), Vec::new());
        for (at, step) in steps.iter().enumerate() {
            let mut rule = format!("(tries < :below{at}");
            values.push((format!(":below{at}"), number(step.below)));
            if !step.pause.is_zero() {
                rule.push_str(&format!(" AND latest <= :before{at}"));
                values.push((format!(":before{at}"), number((now - step.pause).millis())));
            }
            rules.push(rule + ")");
        }
        let count = Count {
            counter,
            now,
            rule: format!("attempt <> :attempt AND ({})", rules.join(" OR ")),
            values,
            set: vec![("latest", number(now.millis())), ("attempt", hash(attempt))],
            add: vec![("tries", number(1))],
        };
        match self.count_in_window(&count).await? {
            Write::Done(old) => Ok(Write::Done(match old {
                Some(old) => Counted { until: until(&old)?, before: Reader(&old).optional("latest", millis)? },
                None => Counted { until: counter.end(now), before: None },
            })),
            Write::Refused(item) => {
                let reader = Reader(&item);
                let until = until(&item)?;
                if reader.optional("attempt", to_hash)? == Some(*attempt) {
                    return Ok(Write::Done(Counted { until, before: None }));
                }
                let latest = Timestamp::from_millis(reader.number("latest")?);
                Ok(Write::Refused(Tally { tries: reader.number("tries")?, latest, until }))
            }
        }
    }

    /// Adds one to the counter at `now`, up to `most` within its window. `account` is
    /// an account's tag and the most different tags that the counter may hold. Either
    /// outcome carries when the window ends.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails, or when an expired counter
    /// keeps changing; [`StoreError::Corrupt`] when the counter cannot be read.
    pub async fn count(
        &self,
        counter: &Counter,
        most: u64,
        account: Option<(Tag, u64)>,
        now: Timestamp,
    ) -> Result<Write<Timestamp, Timestamp>, StoreError> {
        let mut count = Count {
            counter,
            now,
            rule: "tries < :most".into(),
            values: vec![(":most".into(), number(most))],
            set: Vec::new(),
            add: vec![("tries", number(1))],
        };
        if let Some((tag, most_tags)) = account {
            count.rule.push_str(
                " AND (attribute_not_exists(accounts) OR size(accounts) < :most_tags \
                 OR contains(accounts, :tag))",
            );
            count.values.push((":most_tags".into(), number(most_tags)));
            count.values.push((":tag".into(), AttributeValue::B(Blob::new(tag.as_bytes()))));
            count.add.push(("accounts", set(tag)));
        }
        Ok(match self.count_in_window(&count).await? {
            Write::Done(Some(old)) => Write::Done(until(&old)?),
            Write::Done(None) => Write::Done(counter.end(now)),
            Write::Refused(item) => Write::Refused(until(&item)?),
        })
    }

    /// Adds to the counter while its window is open, and otherwise starts a new window.
    /// [`Write::Done`] carries the counter as it was before, if it was in the same
    /// window; [`Write::Refused`] carries the counter as it is.
    async fn count_in_window(&self, count: &Count<'_>) -> Result<Write<Option<Item>, Item>, StoreError> {
        for _ in 0..TRIES {
            let item = match self.add(count).await? {
                Write::Refused(item) => item,
                added => return Ok(added),
            };
            let until = until(&item)?;
            if until > count.now {
                return Ok(Write::Refused(item));
            }
            if self.restart(count, until).await? == Write::Done(()) {
                return Ok(Write::Done(None));
            }
        }
        Err(refused("UpdateItem"))
    }

    async fn add(&self, count: &Count<'_>) -> Result<Write<Option<Item>, Item>, StoreError> {
        let Count { counter, now, rule, values, set, add } = count;
        let mut sets: Vec<_> = set.iter().map(|(name, _)| format!("{name} = :{name}")).collect();
        sets.push("expires_at = if_not_exists(expires_at, :expires_at)".into());
        let adds: Vec<_> = add.iter().map(|(name, _)| format!("{name} :{name}")).collect();
        let mut call = self.client.update_item();
        for (name, value) in set.iter().chain(add) {
            call = call.expression_attribute_values(format!(":{name}"), value.clone());
        }
        for (name, value) in values {
            call = call.expression_attribute_values(name, value.clone());
        }
        let result = call
            .table_name(&self.table)
            .set_key(Some(item::counter_key(counter)))
            .condition_expression(format!("attribute_not_exists(pk) OR (expires_at > :now AND {rule})"))
            .update_expression(format!("SET {} ADD {}", sets.join(", "), adds.join(", ")))
            .expression_attribute_values(":now", number(now.seconds()))
            .expression_attribute_values(":expires_at", number(counter.end(*now).seconds()))
            .return_values(ReturnValue::AllOld)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match result {
            // The embedded engine returns the key of an item that did not exist.
            Ok(written) => Ok(Write::Done(written.attributes.filter(|old| old.contains_key("expires_at")))),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Write::Refused(failed.item().cloned().ok_or(StoreError::Corrupt("tries"))?))
                }
                _ => Err(unavailable("UpdateItem")(error)),
            },
        }
    }

    /// Starts a new window in place of the one that ended at `ended`.
    /// [`Write::Refused`] when the counter has changed since `ended` was read.
    async fn restart(&self, count: &Count<'_>, ended: Timestamp) -> Result<Write, StoreError> {
        let mut call = self.client.update_item();
        let mut sets = vec!["expires_at = :expires_at".to_owned()];
        for (name, value) in count.set.iter().chain(&count.add) {
            sets.push(format!("{name} = :{name}"));
            call = call.expression_attribute_values(format!(":{name}"), value.clone());
        }
        let result = call
            .table_name(&self.table)
            .set_key(Some(item::counter_key(count.counter)))
            .condition_expression("expires_at = :ended")
            .update_expression(format!("SET {}", sets.join(", ")))
            .expression_attribute_values(":ended", number(ended.seconds()))
            .expression_attribute_values(":expires_at", number(count.counter.end(count.now).seconds()))
            .send()
            .await;
        updated(result)
    }

    /// Takes back the guess that `attempt` identifies. The pause that was running
    /// before it goes on, unless another guess was made since. Changes nothing once the
    /// window has ended.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn uncount_guess(&self, counter: &Counter, attempt: &Hash, counted: Counted) -> Result<(), StoreError> {
        if let Some(before) = counted.before {
            let result = self
                .client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(item::counter_key(counter)))
                .condition_expression("tries > :zero AND attempt = :attempt AND expires_at = :until")
                .update_expression("SET latest = :before ADD tries :minus")
                .expression_attribute_values(":attempt", hash(attempt))
                .expression_attribute_values(":before", number(before.millis()))
                .expression_attribute_values(":minus", number(-1))
                .expression_attribute_values(":until", number(counted.until.seconds()))
                .expression_attribute_values(":zero", number(0))
                .send()
                .await;
            if updated(result)? == Write::Done(()) {
                return Ok(());
            }
        }
        self.uncount(counter, None, counted.until).await
    }

    /// Takes back one count of the window that ends at `until`, and its account's tag.
    /// Changes nothing in another window.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn uncount(&self, counter: &Counter, account: Option<Tag>, until: Timestamp) -> Result<(), StoreError> {
        let mut update = "ADD tries :minus".to_owned();
        let mut call = self.client.update_item();
        if let Some(tag) = account {
            update.push_str(" DELETE accounts :accounts");
            call = call.expression_attribute_values(":accounts", set(tag));
        }
        let result = call
            .table_name(&self.table)
            .set_key(Some(item::counter_key(counter)))
            .condition_expression("tries > :zero AND expires_at = :until")
            .update_expression(update)
            .expression_attribute_values(":minus", number(-1))
            .expression_attribute_values(":until", number(until.seconds()))
            .expression_attribute_values(":zero", number(0))
            .send()
            .await;
        match updated(result)? {
            Write::Done(()) | Write::Refused(()) => Ok(()),
        }
    }

    /// Reads a counter whose window is open at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`] when the
    /// counter cannot be read.
    pub async fn counted(&self, counter: &Counter, now: Timestamp) -> Result<Option<CounterState>, StoreError> {
        let Some(item) = self.get(item::counter_key(counter)).await? else { return Ok(None) };
        let reader = Reader(&item);
        let count = CounterState {
            tries: reader.number("tries")?,
            latest: reader.optional("latest", millis)?,
            accounts: reader.optional("accounts", |tags| Some(tags.as_bs().ok()?.len() as u64))?.unwrap_or(0),
            until: until(&item)?,
        };
        Ok(Some(count).filter(|count| count.until > now))
    }

    /// Deletes a counter.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn clear(&self, counter: &Counter) -> Result<(), StoreError> {
        let call = self.client.delete_item().table_name(&self.table).set_key(Some(item::counter_key(counter)));
        call.send().await.map(drop).map_err(unavailable("DeleteItem"))
    }

    /// Deletes a counter whose window ends at `until`, and leaves a later window alone.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn reset(&self, counter: &Counter, until: Timestamp) -> Result<(), StoreError> {
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item::counter_key(counter)))
            .condition_expression("expires_at = :until")
            .expression_attribute_values(":until", number(until.seconds()));
        match deleted(call.send().await)? {
            Write::Done(()) | Write::Refused(()) => Ok(()),
        }
    }
}

/// Returns when the window of a counter ends.
fn until(counter: &Item) -> Result<Timestamp, StoreError> {
    Reader(counter).number("expires_at").map(Timestamp::from_seconds)
}

fn millis(value: &AttributeValue) -> Option<Timestamp> {
    value.as_n().ok()?.parse().ok().map(Timestamp::from_millis)
}

fn set(tag: Tag) -> AttributeValue {
    AttributeValue::Bs(vec![Blob::new(tag.as_bytes())])
}
