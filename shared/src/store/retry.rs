//! Retries that the SDK does not make by itself.

use aws_sdk_dynamodb::config::interceptors::InterceptorContext;
use aws_sdk_dynamodb::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;

/// Retries a write that conflicted with a transaction on the same item, and a transaction
/// that was throttled. Nothing is wrong with the write, which succeeds a moment later, but
/// the SDK does not retry it (Amazon DynamoDB Developer Guide, "Transaction conflict
/// handling").
#[derive(Debug)]
pub struct Conflicts;

impl ClassifyRetry for Conflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(|result| result.err());
        let error = error.and_then(|error| error.as_operation_error());
        let is_conflict = error.is_some_and(|error| {
            error.downcast_ref::<UpdateItemError>().is_some_and(is_conflict)
                || error.downcast_ref::<PutItemError>().is_some_and(is_conflict)
                || error.downcast_ref::<DeleteItemError>().is_some_and(is_conflict)
                || error.downcast_ref::<TransactWriteItemsError>().is_some_and(is_cancelled_in_passing)
        });
        if is_conflict { RetryAction::transient_error() } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "transaction conflicts"
    }
}

fn is_conflict(error: &impl ProvideErrorMetadata) -> bool {
    error.code() == Some("TransactionConflictException")
}

/// Returns whether the transaction was cancelled only because of a conflict or throttling,
/// for which the SDK knows no single code (Amazon DynamoDB API Reference,
/// TransactionCanceledException). If a condition failed as well, a retry would fail too.
fn is_cancelled_in_passing(error: &TransactWriteItemsError) -> bool {
    const PASSING: [&str; 3] = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        return false;
    };
    let has = |code| cancelled.cancellation_reasons().iter().any(|reason| reason.code() == Some(code));
    PASSING.into_iter().any(has) && !has("ConditionalCheckFailed")
}
