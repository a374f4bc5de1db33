//! The table: every call to DynamoDB, and its outcome.
//!
//! There is one table, with the keys `pk` and `sk` and the TTL attribute `expires_at`.
//! A user and the user's sessions share a partition; a credential is found by its
//! e-mail address, and an imported token by its keyed hash; the mails to be sent are in a
//! few partitions of their own. Every
//! lookup is by the full key. The condition of a write checks
//! what must be true of an item when it changes; a read before the write never does.

mod counter;
mod credential;
mod imported;
mod item;
mod mail;
mod proof;
mod retry;
mod scan;
mod session;
mod user;
mod warm;

use aws_sdk_dynamodb::Client as DynamoDb;
use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::builders::{DeleteBuilder, PutBuilder, UpdateBuilder};
use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem, Update};
use aws_types::SdkConfig;

use crate::aws;
use crate::metrics::Metric;
use crate::write::Write;
pub use counter::{Counted, CounterState, Tally};
pub use imported::NotExchanged;
use item::Item;
pub use mail::{Lease, Page, Waiting};
pub use proof::{NotRedeemed, NotRenamed};
pub use scan::{Accounts, Place, Rows, Traces};
pub use user::{Ending, NotEnded};

/// Why a call to DynamoDB failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// DynamoDB was slow, throttled or down, or it refused the call. A later attempt may succeed.
    #[error("DynamoDB {operation}: {code}")]
    Unavailable {
        /// The name of the call, such as `GetItem`.
        operation: &'static str,
        /// The code of the error, or what kept DynamoDB from answering.
        code: String,
    },
    /// An item has no attribute of this name, or one that cannot be read.
    #[error("an item's attribute {0:?} cannot be read")]
    Corrupt(&'static str),
}

impl StoreError {
    /// Returns whether DynamoDB throttled the call.
    pub fn is_throttling(&self) -> bool {
        const CODES: [&str; 3] =
            ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"];
        matches!(self, Self::Unavailable { code, .. } if CODES.contains(&code.as_str()))
    }
}

/// The table.
#[derive(Clone, Debug)]
pub struct Store {
    client: DynamoDb,
    table: String,
}

impl Store {
    /// Returns the table named `table` in the DynamoDB at `endpoint`, or else of the
    /// configured region. `http_client` replaces the SDK's own, for tests.
    pub fn connect(table: &str, endpoint: Option<&str>, http_client: Option<SharedHttpClient>) -> Self {
        Self::with_sdk(&aws::load(http_client, 1), table, endpoint)
    }

    /// Returns the table named `table` as [`Store::connect`] does, with another
    /// configuration of the calls.
    pub fn with_sdk(sdk: &SdkConfig, table: &str, endpoint: Option<&str>) -> Self {
        let config = aws::of_table(sdk, endpoint).retry_classifier(retry::Conflicts);
        Self { client: DynamoDb::from_conf(config.build()), table: table.into() }
    }

    /// Returns the client, for questions about the table itself.
    pub fn client(&self) -> &DynamoDb {
        &self.client
    }

    async fn get(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let call = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true);
        Ok(call.send().await.map_err(unavailable("GetItem"))?.item)
    }

    async fn put_item(&self, item: Item) -> Result<(), StoreError> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item));
        call.send().await.map(drop).map_err(unavailable("PutItem"))
    }

    fn put(&self, item: Item) -> PutBuilder {
        Put::builder().table_name(&self.table).set_item(Some(item))
    }

    fn update(&self, key: Item) -> UpdateBuilder {
        Update::builder().table_name(&self.table).set_key(Some(key))
    }

    fn delete(&self, key: Item) -> DeleteBuilder {
        Delete::builder().table_name(&self.table).set_key(Some(key))
    }

    /// Executes a transaction. [`Write::Refused`] carries the index of the first member
    /// whose condition failed.
    ///
    /// The SDK gives each transaction a ClientRequestToken and keeps it through its
    /// retries, so that one whose answer was lost is not executed twice.
    async fn transact(
        &self,
        members: Vec<Result<TransactWriteItem, StoreError>>,
    ) -> Result<Write<(), usize>, StoreError> {
        let members = members.into_iter().collect::<Result<Vec<_>, _>>()?;
        match self.client.transact_write_items().set_transact_items(Some(members)).send().await {
            Ok(_) => Ok(Write::Done(())),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    let reasons = cancelled.cancellation_reasons();
                    match reasons.iter().position(|reason| reason.code() == Some("ConditionalCheckFailed")) {
                        Some(first) => Ok(Write::Refused(first)),
                        None => Err(unavailable("TransactWriteItems")(error)),
                    }
                }
                _ => Err(unavailable("TransactWriteItems")(error)),
            },
        }
    }
}

/// Drops the index of the failed member from the outcome of a transaction.
fn without_member(transaction: Write<(), usize>) -> Write {
    match transaction {
        Write::Done(()) => Write::Done(()),
        Write::Refused(_) => Write::Refused(()),
    }
}

fn put_member(builder: PutBuilder) -> Result<TransactWriteItem, StoreError> {
    let put = builder.build().map_err(|_| refused("Put"))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

fn update_member(builder: UpdateBuilder) -> Result<TransactWriteItem, StoreError> {
    let update = builder.build().map_err(|_| refused("Update"))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

fn delete_member(builder: DeleteBuilder) -> Result<TransactWriteItem, StoreError> {
    let delete = builder.build().map_err(|_| refused("Delete"))?;
    Ok(TransactWriteItem::builder().delete(delete).build())
}

fn refused(operation: &'static str) -> StoreError {
    StoreError::Unavailable { operation, code: "refused".into() }
}

fn unavailable<E: ProvideErrorMetadata, R>(operation: &'static str) -> impl FnOnce(SdkError<E, R>) -> StoreError {
    move |error| {
        let fault = aws::Fault::of(&error);
        fault.report(format_args!("dynamodb:{operation}"), Some(Metric::DatabaseFaults));
        StoreError::Unavailable { operation, code: fault.code }
    }
}

fn is_refused<R>(error: &SdkError<UpdateItemError, R>) -> bool {
    matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_)))
}

fn updated<T, R>(result: Result<T, SdkError<UpdateItemError, R>>) -> Result<Write, StoreError> {
    match result {
        Ok(_) => Ok(Write::Done(())),
        Err(error) if is_refused(&error) => Ok(Write::Refused(())),
        Err(error) => Err(unavailable("UpdateItem")(error)),
    }
}

fn deleted<T, R>(result: Result<T, SdkError<DeleteItemError, R>>) -> Result<Write, StoreError> {
    match result {
        Ok(_) => Ok(Write::Done(())),
        Err(error) if matches!(error.as_service_error(), Some(DeleteItemError::ConditionalCheckFailedException(_))) => {
            Ok(Write::Refused(()))
        }
        Err(error) => Err(unavailable("DeleteItem")(error)),
    }
}
