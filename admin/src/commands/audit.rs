//! `freshkey audit`.

use std::fs;
use std::path::Path;

use aws_config::SdkConfig;
use aws_sdk_cloudformation::Client as CloudFormation;
use aws_sdk_cloudwatchlogs::Client as Logs;
use freshkey::Timestamp;
use freshkey::audit::TARGET;
use freshkey::id::UserId;
use serde_json::{Map, Value, json};

use crate::cli::Audit;
use crate::desk::Desk;
use crate::failure::Failure;
use crate::record::group_of;

const COLUMNS: &[&str] = &["time", "event", "outcome", "reason", "user_id", "session_id", "ip", "principal"];

pub async fn run(desk: &Desk, Audit { user, since, file }: Audit) -> Result<(), Failure> {
    let user = match user {
        None => None,
        Some(name) => match UserId::parse(&name) {
            Some(id) => Some(id),
            None => Some(desk.app().find_user(&name).await?.id),
        },
    };
    let since = desk.now() - since;
    let mut acts = if file.is_empty() {
        let (aws, stack) =
            desk.deployed("There are no log groups without a stack. Give --file, a file with the log.")?;
        logged(aws, stack, since, user).await?
    } else {
        read(&file)?
    };
    let (since, user) = (Value::from(since.to_string()), user.map(|id| Value::from(id.to_string())));
    acts.retain(|act| {
        let is_recent = act.row["time"].as_str() >= since.as_str();
        is_recent && user.as_ref().is_none_or(|user| act.row["user_id"] == *user)
    });
    acts.sort_by_cached_key(|act| (act.row["time"].as_str().unwrap_or_default().to_owned(), act.logged_at));
    let mut list = desk.out.list(COLUMNS);
    acts.iter().for_each(|act| list.add(&act.row));
    list.end();
    Ok(())
}

/// A line of a log that is about an act.
struct Act {
    row: Value,
    /// When CloudWatch Logs got it, for the order of acts in one second.
    logged_at: i64,
}

/// Reads the log groups of a stack: those of its functions, and the operators' record.
async fn logged(aws: &SdkConfig, stack: &str, since: Timestamp, user: Option<UserId>) -> Result<Vec<Act>, Failure> {
    let of_operators = group_of(stack);
    let logs = Logs::new(aws);
    let mut acts = Vec::new();
    for group in groups(aws, stack).await? {
        // Quoted terms must all be in the line. (Amazon CloudWatch Logs User Guide, "Filter
        // pattern syntax".)
        let target = (group != of_operators).then(|| TARGET.to_owned());
        let terms = target.into_iter().chain(user.map(|id| id.to_string()));
        let terms = terms.map(|term| format!("\"{term}\"")).collect::<Vec<_>>().join(" ");
        let events = logs.filter_log_events().log_group_name(&group).start_time(since.millis());
        let events = events.set_filter_pattern(Some(terms).filter(|terms| !terms.is_empty()));
        let mut pages = events.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Failure::of_call("logs:FilterLogEvents", &error))?;
            acts.extend(page.events().iter().filter_map(|event| {
                let logged_at = event.timestamp().unwrap_or_default();
                Some(Act { row: act(event.message()?)?, logged_at })
            }));
        }
    }
    Ok(acts)
}

/// Returns the names of the stack's log groups, without that of the API, which has
/// requests and no acts.
async fn groups(aws: &SdkConfig, stack: &str) -> Result<Vec<String>, Failure> {
    let resources = CloudFormation::new(aws).list_stack_resources().stack_name(stack);
    let mut resources = resources.into_paginator().items().send();
    let mut groups = Vec::new();
    while let Some(resource) = resources.next().await {
        let resource = resource.map_err(|error| Failure::of_call("cloudformation:ListStackResources", &error))?;
        let is_group = resource.resource_type() == Some("AWS::Logs::LogGroup");
        let name = resource.physical_resource_id().filter(|name| is_group && !name.starts_with("/aws/vendedlogs/"));
        groups.extend(name.map(str::to_owned));
    }
    Ok(groups)
}

fn read(files: &[impl AsRef<Path>]) -> Result<Vec<Act>, Failure> {
    let mut acts = Vec::new();
    for path in files.iter().map(AsRef::as_ref) {
        let text = fs::read(path);
        let text = text.map_err(|error| Failure::usage("no_file", format!("{}: {error}", path.display())))?;
        let lines = String::from_utf8_lossy(&text);
        acts.extend(lines.lines().filter_map(act).map(|row| Act { row, logged_at: 0 }));
    }
    Ok(acts)
}

/// Reads the act of a line: of the audit trail, in JSON or as the local system shows it in
/// the terminal, or of the operators' record.
fn act(line: &str) -> Option<Value> {
    let is_json = line.starts_with('{');
    let members = if is_json { serde_json::from_str(line).ok()? } else { fields(line) };
    let member = |name: &str| members.get(name).cloned().unwrap_or_default();
    if is_json && members.contains_key("principal") {
        return members.contains_key("act").then(|| {
            json!({
                "time": member("time"), "event": member("act"), "outcome": null, "reason": null,
                "user_id": member("user_id"), "session_id": null, "ip": null, "request_id": null,
                "principal": member("principal"),
            })
        });
    }
    let is_trail = if is_json { member("target") == TARGET } else { members.contains_key("outcome") };
    (is_trail && members.contains_key("event") && members.contains_key("datetime")).then(|| {
        json!({
            "time": member("datetime"), "event": member("event"), "outcome": member("outcome"),
            "reason": member("reason"), "user_id": member("user.id"), "session_id": member("session.id"),
            "ip": member("source.ip"), "request_id": member("request.id"), "principal": null,
        })
    })
}

/// Reads the fields of a line in the terminal: `INFO logged in event="…" user.id=…`. Of two
/// fields with the same name, the first counts: the others are those of a span.
fn fields(line: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('=') {
        let name = before.rsplit(' ').next().unwrap_or_default();
        let end = match after.strip_prefix('"') {
            Some(quoted) => end_of_quote(quoted).map_or(after.len(), |end| end + 2),
            None => after.find(' ').unwrap_or(after.len()),
        };
        let (text, next) = after.split_at(end);
        let value = serde_json::from_str(text).ok().filter(Value::is_string).unwrap_or_else(|| text.into());
        fields.entry(name).or_insert(value);
        rest = next;
    }
    fields
}

/// Returns where the quote ends that begins before `text`.
fn end_of_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_terminal_has_the_fields_of_its_event_before_those_of_its_span() {
        let line = "ERROR request: refresh token reuse: session revoked event=\"authn_token_reuse\" \
                    datetime=2026-11-26T09:30:00Z outcome=\"failure\" reason=\"a \\\"b\\\" c=d\" user.id=u \
                    source.ip=::1 event=\"x\"";
        let act = act(line).unwrap();
        let text = |name: &str| act[name].as_str().map(str::to_owned);
        assert_eq!(text("event").unwrap(), "authn_token_reuse");
        assert_eq!(text("reason").unwrap(), "a \"b\" c=d");
        assert_eq!((text("user_id").unwrap(), text("ip").unwrap()), ("u".into(), "::1".into()));
        assert_eq!(text("session_id"), None);
    }

    #[test]
    fn a_line_about_something_else_is_no_act() {
        for line in [
            "",
            "x",
            "{",
            "[]",
            "{}",
            "INFO listening port=3000",
            r#"{"target":"freshkey","event":"authn_login_success","datetime":"2026-11-26T09:30:00Z","outcome":"success"}"#,
            r#"{"target":"freshkey::audit"}"#,
            r#"{"principal":"olga"}"#,
            "a=\"",
            "=",
        ] {
            assert_eq!(act(line), None, "{line}");
        }
    }
}
