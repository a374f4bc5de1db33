//! `freshkey limits`.

use freshkey::auth::operator::{Limit, Limited};
use serde_json::{Value, json};

use crate::cli::Limits;
use crate::desk::Desk;
use crate::failure::Failure;

const COLUMNS: &[&str] = &["limit", "count", "most", "until", "blocked_until"];

pub async fn run(desk: &Desk, command: Limits) -> Result<(), Failure> {
    let (Limits::Show(counted) | Limits::Clear(counted)) = &command;
    let limited = desk.app().find_limited(&counted.name).await?;
    if let Limited::Email(_) = limited {
        desk.out.remark("No account has this address.");
    }
    match command {
        Limits::Show(_) => {
            let mut list = desk.out.list(COLUMNS);
            desk.app().limits(&limited).await?.iter().for_each(|limit| list.add(&row(limit)));
            list.end();
        }
        Limits::Clear(_) => {
            let user = match &limited {
                Limited::User(user) => Some(user.id),
                Limited::Address(_) | Limited::Email(_) => None,
            };
            desk.recorded("limits clear", user).await?.clear_limits(&limited).await?;
            let user = user.map(|id| id.to_string());
            desk.out.object(&json!({ "user_id": user, "cleared": true }));
        }
    }
    Ok(())
}

/// Returns a limit as an object.
pub fn row(limit: &Limit) -> Value {
    json!({
        "limit": limit.name,
        "count": limit.count,
        "most": limit.most,
        "until": limit.until.to_string(),
        "blocked_until": limit.blocked_until.map(|until| until.to_string()),
    })
}
