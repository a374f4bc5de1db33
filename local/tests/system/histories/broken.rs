//! What the promises would look like broken: DynamoDB does to the calls what it never does,
//! so that the system behaves as if a line of it were missing or wrong.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use freshkey::id::SessionId;
use freshkey::session::Session;
use futures_util::FutureExt;
use futures_util::future::ready;
use serde_json::{Value, json};

use super::stage::{Fault, Play};
use crate::wire::{Call, Fate};

/// A fault, and what the system seems to do because of it.
pub struct Broken {
    pub what: &'static str,
    pub fault: Fault,
}

/// A fault that depends on the call alone.
macro_rules! of_call {
    ($fault:expr) => {
        |_, _, call| {
            let fault: fn(Call) -> Option<Fate> = $fault;
            ready(fault(call)).boxed()
        }
    };
}

pub const BROKEN: [Broken; 13] = [
    Broken {
        what: "two attempts rotate one token",
        fault: of_call!(|call| on(
            rotation(&call),
            without(&call, "generation <= :generation", "attribute_exists(pk) OR generation <= :generation")
        )),
    },
    Broken {
        what: "a session that reuse has ended still rotates",
        fault: of_call!(|call| on(
            rotation(&call),
            without(&call, "attribute_not_exists(revoked_at)", "attribute_exists(pk)")
        )),
    },
    Broken {
        what: "a rotation is answered but not written",
        fault: |play, _, call| {
            async move { if rotation(&call) { unwritten(&play, &call).await } else { None } }.boxed()
        },
    },
    Broken {
        what: "a rotation does not keep its attempt",
        fault: of_call!(|mut call| {
            call.body["ExpressionAttributeValues"][":attempt"] = json!({ "B": BASE64_STANDARD.encode([0; 32]) });
            on(rotation(&call), Fate::Forged(call.body))
        }),
    },
    Broken {
        what: "every attempt counts as the one that rotated",
        fault: |play, _, call| async move { if rotation(&call) { mistaken(&play, &call).await } else { None } }.boxed(),
    },
    Broken {
        what: "reuse is found, but the session goes on",
        fault: of_call!(|call| on(is_update(&call, ":reason"), Fate::Invented(200, json!({})))),
    },
    Broken {
        what: "a logout is answered but not carried out",
        fault: of_call!(|call| on(is_logout(&call), Fate::Invented(200, json!({})))),
    },
    Broken {
        what: "a logout says that the session had already ended, and is carried out later",
        fault: |play, client, call| {
            let postponed = || Fate::Postponed(play.hold_up(&call, client), 400, refused(&[]));
            ready(is_logout(&call).then(postponed)).boxed()
        },
    },
    Broken {
        what: "the end of all sessions is answered but not carried out",
        fault: of_call!(|call| on(is_end(&call) && members(&call).len() == 2, Fate::Invented(200, json!({})))),
    },
    Broken {
        what: "the end of sessions does not raise the epoch of the user",
        fault: of_call!(|mut call| {
            if !is_end(&call) {
                return None;
            }
            let values = &mut call.body["TransactItems"][0]["Update"]["ExpressionAttributeValues"];
            values[":next"] = values[":epoch"].clone();
            Some(Fate::Forged(call.body))
        }),
    },
    Broken {
        what: "a session that has ended keeps itself",
        fault: of_call!(|mut call| {
            if !is_end(&call) || members(&call).len() == 2 {
                return None;
            }
            let lift = &mut call.body["TransactItems"][2]["Update"];
            let condition = text(&lift["ConditionExpression"]).replace("epoch = :epoch", "epoch <= :epoch");
            lift["ConditionExpression"] = condition.into();
            Some(Fate::Forged(call.body))
        }),
    },
    Broken {
        what: "the end of the other sessions is carried out, but refused",
        fault: of_call!(|call| on(
            is_end(&call) && members(&call).len() > 2,
            Fate::Misreported(400, refused(&["None", "None", "ConditionalCheckFailed"]))
        )),
    },
    Broken {
        what: "the user is read as it was, and the sessions that have ended are not deleted",
        fault: |play, _, call| {
            let is_user = call.operation == "GetItem" && call.body["Key"]["sk"]["S"] == "PROFILE";
            let is_sweep = call.operation == "DeleteItem" && !is_logout(&call);
            let fate = match call.operation.as_str() {
                "GetItem" if is_user => Some(Fate::Stale(Arc::clone(&play.memory))),
                "DeleteItem" if is_sweep => Some(Fate::Refused(500, "InternalServerError")),
                _ => None,
            };
            ready(fate).boxed()
        },
    },
];

fn on(is_hit: bool, fate: Fate) -> Option<Fate> {
    is_hit.then_some(fate)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether an UpdateItem has this value.
fn is_update(call: &Call, value: &str) -> bool {
    call.operation == "UpdateItem" && call.body["ExpressionAttributeValues"][value].is_object()
}

/// Whether a call is the write of a refresh.
fn rotation(call: &Call) -> bool {
    is_update(call, ":secret_hash")
}

/// Whether a call deletes a session that its user ends.
fn is_logout(call: &Call) -> bool {
    call.operation == "DeleteItem" && text(&call.body["ConditionExpression"]).starts_with("attribute_exists(pk)")
}

/// Whether a call raises the epoch of a user.
fn is_end(call: &Call) -> bool {
    members(call).first().is_some_and(|member| member["Update"]["Key"]["sk"]["S"] == "PROFILE")
}

fn members(call: &Call) -> &[Value] {
    call.body["TransactItems"].as_array().map_or(&[], Vec::as_slice)
}

/// The call with a part of its condition replaced. The values stay in use, because DynamoDB
/// refuses a value that no expression uses.
fn without(call: &Call, part: &str, by: &str) -> Fate {
    let mut body = call.body.clone();
    let condition = text(&body["ConditionExpression"]).replace(part, &format!("({by})"));
    body["ConditionExpression"] = condition.into();
    Fate::Forged(body)
}

/// The answer to a write whose condition failed; to a transaction, with a reason for each member.
fn refused(reasons: &[&str]) -> Value {
    let code = if reasons.is_empty() { "ConditionalCheckFailedException" } else { "TransactionCanceledException" };
    let reasons: Vec<_> = reasons.iter().map(|reason| json!({ "Code": reason })).collect();
    json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
        "message": "injected",
        "CancellationReasons": reasons,
    })
}

/// The session that a refresh is about, as it is in the table.
async fn session(play: &Play, call: &Call) -> Option<Session> {
    let id = SessionId::parse(text(&call.body["Key"]["sk"]["S"]).strip_prefix("SESSION#")?)?;
    play.stage.world.app("refresh").store().session(play.user, id).await.unwrap()
}

/// A session as an item, with the attempt and the generation that a refresh writes.
fn item(call: &Call, session: &Session, generation: u64) -> Value {
    let number = |number: i64| json!({ "N": number.to_string() });
    json!({
        "pk": call.body["Key"]["pk"],
        "sk": call.body["Key"]["sk"],
        "generation": { "N": generation.to_string() },
        "secret_hash": { "B": BASE64_STANDARD.encode(session.secret_hash.as_bytes()) },
        "attempt": call.body["ExpressionAttributeValues"][":attempt"],
        "rotated_at": number(session.rotated_at.millis()),
        "created_at": number(session.created_at.seconds()),
        "opened_at": number(session.opened_at.millis()),
        "last_used_at": number(session.last_used_at.seconds()),
        "expires_at": number(session.expires_at.seconds()),
        "epoch": { "N": session.epoch.to_string() },
        "ip": { "S": "" },
        "user_agent": { "S": "" },
    })
}

/// Answers a rotation as if it were written.
async fn unwritten(play: &Play, call: &Call) -> Option<Fate> {
    let presented: u64 = text(&call.body["ExpressionAttributeValues"][":generation"]["N"]).parse().ok()?;
    let session = session(play, call).await?;
    let is_open = session.generation <= presented && session.revoked_at.is_none();
    is_open.then(|| Fate::Invented(200, json!({ "Attributes": item(call, &session, presented + 1) })))
}

/// Answers a refresh with a spent token as if its own attempt had rotated the session.
async fn mistaken(play: &Play, call: &Call) -> Option<Fate> {
    let presented: u64 = text(&call.body["ExpressionAttributeValues"][":generation"]["N"]).parse().ok()?;
    let session = session(play, call).await?;
    let mut answer = refused(&[]);
    answer["Item"] = item(call, &session, session.generation);
    (session.generation == presented + 1 && session.revoked_at.is_none()).then_some(Fate::Invented(400, answer))
}
