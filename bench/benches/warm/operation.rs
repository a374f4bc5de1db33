//! What users do, each checked.

use std::time::{Duration, Instant};

use bench::member::Member;
use bench::request;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::PASSWORD;
use crate::meter::Calls;
use crate::world::World;

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Register,
    Login,
    Refresh,
    Me,
    Logout,
    Sessions,
    EndSessions,
    Delete,
}

/// What an operation took.
#[derive(Clone, Copy)]
pub struct Taken {
    /// From the event to the answer.
    pub time: Duration,
    /// Its calls to DynamoDB.
    pub calls: Calls,
}

/// A user with the newest tokens.
pub struct Caller {
    email: String,
    access_token: String,
    refresh_token: String,
    /// The refresh token of the session that the latest login has opened.
    elsewhere: String,
    registered: usize,
}

impl Caller {
    pub fn new(member: &Member) -> Self {
        Self {
            email: member.user.email.as_str().into(),
            access_token: member.access_token.expose_secret().into(),
            refresh_token: member.refresh_token.expose_secret().into(),
            elsewhere: String::new(),
            registered: 0,
        }
    }

    /// Carries an operation out, and fails unless it succeeds. A logout ends the session
    /// that the login before it has opened.
    pub async fn perform(&mut self, operation: Operation, world: &World) -> Taken {
        let bearer = Some(self.access_token.as_str());
        let (function, event, status) = match operation {
            Operation::Register => {
                self.registered += 1;
                let email = format!("new{}.{}", self.registered, self.email);
                ("register", request::register(&email, PASSWORD), 201)
            }
            Operation::Login => ("login", request::login(&self.email, PASSWORD), 200),
            Operation::Refresh => ("refresh", request::refresh(&self.refresh_token), 200),
            Operation::Me => ("account", request::event("GET", "/api/v1/users/me", bearer, &Value::Null), 200),
            Operation::Logout => {
                let body = json!({ "refresh_token": self.elsewhere });
                ("logout", request::event("POST", "/api/v1/auth/logout", None, &body), 204)
            }
            Operation::Sessions => {
                ("account", request::event("GET", "/api/v1/auth/sessions", bearer, &Value::Null), 200)
            }
            Operation::EndSessions => {
                ("account", request::event("DELETE", "/api/v1/auth/sessions", bearer, &Value::Null), 204)
            }
            Operation::Delete => {
                let body = json!({ "password": PASSWORD });
                ("account", request::event("POST", "/api/v1/users/me/delete", bearer, &body), 204)
            }
        };
        let function = world.function(function);
        world.meter.take();
        let start = Instant::now();
        let answer = request::send(function, &event).await;
        let time = start.elapsed();
        let calls = world.meter.take();
        let body = request::body(&answer, status);
        match operation {
            Operation::Login => self.elsewhere = request::refresh_token(&answer, status),
            Operation::Refresh => {
                let next = request::refresh_token(&answer, status);
                assert_ne!(next, self.refresh_token, "the session rotates");
                self.refresh_token = next;
            }
            Operation::Me => assert_eq!(body["email"], self.email.as_str()),
            Operation::Sessions => assert!(!body["sessions"].as_array().unwrap().is_empty()),
            Operation::Register | Operation::Logout | Operation::EndSessions | Operation::Delete => {}
        }
        Taken { time, calls }
    }
}
