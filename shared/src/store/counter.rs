//! The counters of the limits. Whether a count may go up is in the condition of
//! the write that raises it, so that no two requests can take the same place.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::item::{self, Reader, hash, number, to_hash};
use super::{Store, StoreError, unavailable, updated};
use crate::clock::Timestamp;
use crate::limit::{AccountTag, Counter, Step};
use crate::session::Hash;
use crate::write::Write;

/// The guesses that a counter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many were made.
    pub tries: u64,
    /// When the latest was made.
    pub latest: Timestamp,
}

impl Store {
    /// Counts a guess, if one of `steps` lets it be made now. `attempt`
    /// identifies it: the SDK's retry after a lost answer finds that it has been
    /// counted, and counts it once.
    ///
    /// [`Write::Done`] carries when the guess before it was made, if there was one
    /// and the answer that said so was not lost.
    pub async fn count_guess(
        &self,
        counter: &Counter,
        steps: &[Step],
        attempt: &Hash,
        now: Timestamp,
    ) -> Result<Write<Option<Timestamp>, Tally>, StoreError> {
        let mut may_be_made = Vec::new();
        let mut call = self.client.update_item();
        for (at, step) in steps.iter().enumerate() {
            let mut condition = format!("(tries < :below{at}");
            call = call.expression_attribute_values(format!(":below{at}"), number(step.below));
            if !step.pause.is_zero() {
                condition.push_str(&format!(" AND latest <= :before{at}"));
                call = call.expression_attribute_values(format!(":before{at}"), number((now - step.pause).millis()));
            }
            may_be_made.push(condition + ")");
        }
        let may_be_made = may_be_made.join(" OR ");
        let result = call
            .table_name(&self.table)
            .set_key(Some(item::counter_key(counter)))
            .condition_expression(format!("attribute_not_exists(pk) OR (attempt <> :attempt AND ({may_be_made}))"))
            .update_expression("SET latest = :now, attempt = :attempt, expires_at = :expires_at ADD tries :one")
            .expression_attribute_values(":now", number(now.millis()))
            .expression_attribute_values(":attempt", hash(attempt))
            .expression_attribute_values(":expires_at", number(counter.until.seconds()))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::UpdatedOld)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match result {
            Ok(written) => {
                let latest = written.attributes().map(|old| Reader(old).optional("latest", millis)).transpose()?;
                Ok(Write::Done(latest.flatten()))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    let item = Reader(failed.item().ok_or(StoreError::Corrupt("tries"))?);
                    if item.optional("attempt", to_hash)? == Some(*attempt) {
                        return Ok(Write::Done(None));
                    }
                    let latest = Timestamp::from_millis(item.number("latest")?);
                    Ok(Write::Refused(Tally { tries: item.number("tries")?, latest }))
                }
                _ => Err(unavailable("UpdateItem")(error)),
            },
        }
    }

    /// Counts one more, up to `most`; with a account_tag, also up to so many different
    /// accounts. [`Write::Refused`] when it is full.
    pub async fn count(
        &self,
        counter: &Counter,
        most: u64,
        account_tag: Option<(AccountTag, u64)>,
    ) -> Result<Write, StoreError> {
        let mut condition = "tries < :most".to_owned();
        let mut update = "SET expires_at = :expires_at ADD tries :one".to_owned();
        let mut call = self.client.update_item();
        if let Some((account_tag, most_accounts)) = account_tag {
            condition
                .push_str(" AND (attribute_not_exists(accounts) OR size(accounts) < :most_accounts OR contains(accounts, :account_tag))");
            update.push_str(", accounts :accounts");
            call = call
                .expression_attribute_values(":most_accounts", number(most_accounts))
                .expression_attribute_values(":account_tag", AttributeValue::B(Blob::new(account_tag.as_bytes())))
                .expression_attribute_values(":accounts", set(account_tag));
        }
        let result = call
            .table_name(&self.table)
            .set_key(Some(item::counter_key(counter)))
            .condition_expression(format!("attribute_not_exists(pk) OR ({condition})"))
            .update_expression(update)
            .expression_attribute_values(":expires_at", number(counter.until.seconds()))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":most", number(most))
            .send()
            .await;
        updated(result)
    }

    /// Takes back the guess that `attempt` identifies, so that the pause goes on
    /// that was running `before`; unless another guess has come since.
    pub async fn uncount_guess(
        &self,
        counter: &Counter,
        attempt: &Hash,
        before: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        if let Some(before) = before {
            let result = self
                .client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(item::counter_key(counter)))
                .condition_expression("tries > :zero AND attempt = :attempt")
                .update_expression("SET latest = :before ADD tries :minus")
                .expression_attribute_values(":attempt", hash(attempt))
                .expression_attribute_values(":before", number(before.millis()))
                .expression_attribute_values(":minus", number(-1))
                .expression_attribute_values(":zero", number(0))
                .send()
                .await;
            if updated(result)? == Write::Done(()) {
                return Ok(());
            }
        }
        self.uncount(counter, None).await.map(drop)
    }

    /// Takes back one that was counted, and its account_tag.
    pub async fn uncount(&self, counter: &Counter, account_tag: Option<AccountTag>) -> Result<Write, StoreError> {
        let mut update = "ADD tries :minus".to_owned();
        let mut call = self.client.update_item();
        if let Some(account_tag) = account_tag {
            update.push_str(" DELETE accounts :accounts");
            call = call.expression_attribute_values(":accounts", set(account_tag));
        }
        let result = call
            .table_name(&self.table)
            .set_key(Some(item::counter_key(counter)))
            .condition_expression("tries > :zero")
            .update_expression(update)
            .expression_attribute_values(":minus", number(-1))
            .expression_attribute_values(":zero", number(0))
            .send()
            .await;
        updated(result)
    }

    /// Starts a counter anew.
    pub async fn reset(&self, counter: &Counter) -> Result<(), StoreError> {
        let call = self.client.delete_item().table_name(&self.table).set_key(Some(item::counter_key(counter)));
        call.send().await.map(drop).map_err(unavailable("DeleteItem"))
    }
}

fn millis(value: &AttributeValue) -> Option<Timestamp> {
    value.as_n().ok()?.parse().ok().map(Timestamp::from_millis)
}

fn set(account_tag: AccountTag) -> AttributeValue {
    AttributeValue::Bs(vec![Blob::new(account_tag.as_bytes())])
}
