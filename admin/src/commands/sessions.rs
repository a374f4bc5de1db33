//! `freshkey sessions`.

use std::collections::HashMap;

use freshkey::auth::operator::SessionState;
use freshkey::id::UserId;
use freshkey::session::Session;
use freshkey::store::Rows;
use freshkey::user::{User, UserState};
use freshkey::{Error, Timestamp};
use serde_json::{Value, json};

use crate::cli::Sessions;
use crate::desk::Desk;
use crate::failure::Failure;

const COLUMNS: &[&str] = &["session_id", "user_id", "state", "opened_at", "last_used_at", "expires_at", "ip"];

pub async fn run(desk: &Desk, command: Sessions) -> Result<(), Failure> {
    match command {
        Sessions::List { user, valid, expired, revoked } => {
            let is_wanted = |state| match state {
                _ if !valid && !expired && !revoked => true,
                SessionState::Valid => valid,
                SessionState::Expired => expired,
                SessionState::Reused | SessionState::Ended => revoked,
            };
            match user {
                Some(user) => list_of(desk, &user, is_wanted).await,
                None => list(desk, is_wanted).await,
            }
        }
        Sessions::Revoke { user, session } => {
            let id = desk.app().find_user(&user.name).await?.id;
            let app = desk.recorded("sessions revoke", id).await?;
            match session {
                Some(session) => app.revoke_session(id, session).await.map_err(|error| match error {
                    Error::NotFound => Failure::refused("not_found", "There is no such session of this user to end."),
                    error => error.into(),
                })?,
                None => app.revoke_sessions(id).await?,
            }
            let session = session.map(|session| session.to_string());
            desk.out.object(&json!({ "user_id": id.to_string(), "session_id": session, "revoked": true }));
            Ok(())
        }
        Sessions::Clear => clear(desk).await,
    }
}

async fn list_of(desk: &Desk, user: &str, is_wanted: impl Fn(SessionState) -> bool) -> Result<(), Failure> {
    let id = desk.app().find_user(user).await?.id;
    let (user, sessions) = desk.app().all_sessions(id).await?;
    let (user, now) = (Some(user.state()), desk.now());
    let mut list = desk.out.list(COLUMNS);
    for session in sessions.iter().filter(|session| is_wanted(SessionState::of(session, user, now))) {
        list.add(&row(session, user, now));
    }
    list.end();
    Ok(())
}

async fn list(desk: &Desk, is_wanted: impl Fn(SessionState) -> bool) -> Result<(), Failure> {
    desk.out.remark("This reads the whole table.");
    let store = desk.app().store();
    let mut list = desk.out.list(COLUMNS);
    // A scan usually returns a user before the sessions.
    let mut users: HashMap<UserId, Option<UserState>> = HashMap::new();
    let (mut unreadable, mut place) = (0, None);
    loop {
        let page = store.scan(Rows::Accounts, place).await.map_err(Error::from)?;
        unreadable += page.unreadable;
        users.extend(page.users.iter().map(|user| (user.id, Some(user.state()))));
        for session in &page.sessions {
            let user = match users.get(&session.user_id) {
                Some(user) => *user,
                None => {
                    let user = store.user(session.user_id).await.map_err(Error::from)?;
                    *users.entry(session.user_id).or_insert(user.as_ref().map(User::state))
                }
            };
            if is_wanted(SessionState::of(session, user, desk.now())) {
                list.add(&row(session, user, desk.now()));
            }
        }
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    list.end();
    desk.out.unreadable(unreadable);
    Ok(())
}

async fn clear(desk: &Desk) -> Result<(), Failure> {
    let app = desk.recorded("sessions clear", None).await?;
    desk.out.remark("This reads the whole table.");
    let (mut cleared, mut unreadable, mut place) = (0_usize, 0, None);
    loop {
        let page = app.store().scan(Rows::Expired(desk.now()), place).await.map_err(Error::from)?;
        unreadable += page.unreadable;
        for session in &page.sessions {
            cleared += usize::from(app.clear_session(session).await?);
        }
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    desk.out.object(&json!({ "cleared": cleared }));
    desk.out.unreadable(unreadable);
    Ok(())
}

/// Returns a session as an object.
pub fn row(session: &Session, user: Option<UserState>, now: Timestamp) -> Value {
    let (state, reason) = match SessionState::of(session, user, now) {
        SessionState::Valid => ("valid", None),
        SessionState::Expired => ("expired", None),
        SessionState::Reused => ("revoked", Some("reuse")),
        SessionState::Ended => ("revoked", Some("ended")),
    };
    json!({
        "session_id": session.id.to_string(),
        "user_id": session.user_id.to_string(),
        "state": state,
        "reason": reason,
        "opened_at": session.opened_at.to_string(),
        "last_used_at": session.last_used_at.to_string(),
        "expires_at": session.expires_at.to_string(),
        "revoked_at": session.revoked_at.map(|at| at.to_string()),
        "generation": session.generation,
        "ip": session.client.ip,
        "user_agent": session.client.user_agent,
    })
}
