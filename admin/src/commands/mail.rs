//! `freshkey mail`.

use freshkey::Timestamp;
use freshkey::limit;
use freshkey::mail::Mail;
use serde_json::{Value, json};

use crate::cli;
use crate::desk::Desk;
use crate::failure::Failure;

const COLUMNS: &[&str] = &["kind", "state", "user_id", "written_at", "age_seconds", "expires_at"];

pub async fn run(desk: &Desk, command: cli::Mail) -> Result<(), Failure> {
    let outbox = desk.app().outbox().await?;
    match command {
        cli::Mail::List => {
            let mut list = desk.out.list(COLUMNS);
            outbox.mails.iter().for_each(|(mail, was_taken)| list.add(&row(mail, *was_taken, desk.now())));
            list.end();
            desk.out.unreadable(outbox.unreadable.len());
        }
        cli::Mail::Retry => {
            desk.confirm("Let the mailer try every mail at once? Those that are just being sent are sent twice.")?;
            let app = desk.recorded("mail retry", None).await?;
            let mut retried = 0_usize;
            for (mail, _) in &outbox.mails {
                retried += usize::from(app.retry_mail(mail).await?);
            }
            desk.out.object(&json!({ "retried": retried }));
        }
    }
    Ok(())
}

/// Returns a mail as an object, without its address.
fn row(mail: &Mail, was_taken: bool, now: Timestamp) -> Value {
    json!({
        "kind": mail.kind.name(),
        "state": if was_taken { "taken" } else { "waiting" },
        "user_id": mail.account.map(|account| account.user_id.to_string()),
        "written_at": mail.written_at.to_string(),
        "age_seconds": limit::until(now, mail.written_at).as_secs(),
        "expires_at": mail.expires_at.to_string(),
    })
}

/// Returns a mail with its address, for its owner.
pub fn in_full(mail: &Mail) -> Value {
    json!({
        "kind": mail.kind.name(),
        "email": mail.email.as_str(),
        "written_at": mail.written_at.to_string(),
        "expires_at": mail.expires_at.to_string(),
        "ip": mail.client.ip,
        "user_agent": mail.client.user_agent,
    })
}
