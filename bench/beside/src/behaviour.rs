//! What a system does when things go wrong: requests at the same time, lost answers,
//! stolen and forged tokens.

use std::collections::BTreeSet;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use reqwest::Client;
use serde_json::Value;

use crate::load::client;
use crate::statements::Statements;
use crate::systems::{Answer, Api, Server};

/// How many requests present the same token at the same time.
pub const PARALLEL: usize = 20;
/// How often they do so, each time in a session of its own.
pub const TRIALS: usize = 10;
/// How many refreshes are counted.
pub const COUNTED: usize = 20;
/// The cookie of better-auth's sessions. Its value is a token and a signature.
const SESSION_COOKIE: &str = "better-auth.session_token";
/// How many users [`findings`] needs.
pub const USERS: usize = TRIALS + 6;

/// What was found.
pub struct Findings {
    /// For each trial of requests with the same token.
    pub bursts: Vec<Burst>,
    /// Whether the client can go on after it lost an answer and asked again.
    pub survives_lost_answer: bool,
    /// A spent token is presented again.
    pub replay: Theft,
    /// A thief refreshes before the owner does.
    pub thief_first: Theft,
    /// What the database holds of what a refresh presents.
    pub held: Held,
    /// The statements of [`COUNTED`] refreshes.
    pub statements: Statements,
    /// The rows that they left behind.
    pub rows: usize,
    /// The statements for a forged token.
    pub forged: Statements,
}

/// What a database holds of the secret that a refresh presents.
pub enum Held {
    /// Not the secret.
    Nothing,
    /// The secret, which is not accepted as it is there.
    Unusable,
    /// The secret, which can be used as it is there.
    Usable,
}

/// What came of [`PARALLEL`] requests with the same token.
pub struct Burst {
    /// How many got tokens.
    pub refreshed: usize,
    /// How many got an error that is not a refusal.
    pub failed: usize,
    /// How many different refresh tokens they got that work.
    pub successors: usize,
    /// Whether the last token that a client got works.
    pub is_signed_in: bool,
}

/// What came of one token in two hands.
pub struct Theft {
    /// Whether the second one to present it was refused.
    pub is_refused: bool,
    /// Whether the first one can go on.
    pub goes_on: bool,
}

/// A system, and whether its clients send an `Idempotency-Key`.
pub struct Subject<'a> {
    /// The server.
    pub server: &'a Server,
    /// What it is asked for.
    pub api: Api,
    /// Whether clients send a key with each attempt.
    pub has_keys: bool,
}

impl Subject<'_> {
    async fn refresh(&self, http: &Client, credential: &str, key: &str) -> Answer {
        let key = self.has_keys.then_some(key);
        self.api.refresh(http, &self.server.url, credential, key).await
    }

    /// A refresh that must succeed.
    async fn next(&self, http: &Client, credential: &str, key: &str) -> String {
        match self.refresh(http, credential, key).await {
            Answer::Refreshed(next) => next,
            other => panic!("{other:?}"),
        }
    }

    async fn works(&self, http: &Client, credential: &str, key: &str) -> bool {
        matches!(self.refresh(http, credential, key).await, Answer::Refreshed(_))
    }

    async fn burst(&self, credential: &str) -> Burst {
        let clients: Vec<_> = (0..PARALLEL).map(|_| client()).collect();
        // Opens the connections.
        join_all(clients.iter().map(|http| http.get(&self.server.url).send())).await;
        let answers = clients.iter().map(async |http| {
            let answer = self.refresh(http, credential, "the tabs' key").await;
            (Instant::now(), answer)
        });
        let mut answers = join_all(answers).await;
        answers.sort_by_key(|(arrival, _)| *arrival);
        let mut arrived = Vec::new();
        let mut failed = 0;
        for (_, answer) in answers {
            match answer {
                Answer::Refreshed(next) => arrived.push(next),
                Answer::Refused => {}
                Answer::Failed(_) => failed += 1,
            }
        }
        let http = &clients[0];
        let is_signed_in = match arrived.last() {
            Some(last) => self.works(http, last, "the next key").await,
            None => false,
        };
        let mut successors = usize::from(is_signed_in);
        let others: BTreeSet<_> = arrived.iter().filter(|next| Some(*next) != arrived.last()).collect();
        for (number, other) in others.into_iter().enumerate() {
            successors += usize::from(self.works(http, other, &format!("another key {number}")).await);
        }
        Burst { refreshed: arrived.len(), failed, successors, is_signed_in }
    }

    /// The client does not get the answer, and asks again.
    async fn survives_lost_answer(&self, http: &Client, credential: &str) -> bool {
        drop(self.next(http, credential, "first").await);
        match self.refresh(http, credential, "first").await {
            Answer::Refreshed(next) => self.works(http, &next, "second").await,
            _ => false,
        }
    }

    /// The owner refreshes twice; then somebody presents the first token.
    async fn replay(&self, http: &Client, credential: &str) -> Theft {
        let second = self.next(http, credential, "first").await;
        let third = self.next(http, &second, "second").await;
        let is_refused = self.refresh(http, credential, "the thief's").await == Answer::Refused;
        Theft { is_refused, goes_on: self.works(http, &third, "third").await }
    }

    /// A thief presents the token, then the owner, then the thief refreshes again.
    async fn thief_first(&self, http: &Client, credential: &str) -> Theft {
        let stolen = self.next(http, credential, "the thief's").await;
        let is_refused = self.refresh(http, credential, "the owner's").await == Answer::Refused;
        Theft { is_refused, goes_on: self.works(http, &stolen, "the thief's next").await }
    }

    /// Looks for the secrets of a session in the database, and presents what it finds.
    async fn held(&self, http: &Client, credential: &str) -> Held {
        let credential = self.next(http, credential, "key").await;
        let stored = self.server.stored();
        let Some(secret) = self.secrets(&credential).into_iter().find(|secret| stored.contains(secret)) else {
            return Held::Nothing;
        };
        let found = if self.api == Api::Session { format!("{SESSION_COOKIE}={secret}") } else { secret };
        if self.works(http, &found, "the reader's").await { Held::Usable } else { Held::Unusable }
    }

    /// The secrets in what a refresh presents.
    fn secrets(&self, credential: &str) -> Vec<String> {
        match self.api {
            Api::Simplejwt | Api::Provider => vec![credential.to_owned()],
            Api::Session => {
                let value = credential.strip_prefix(SESSION_COOKIE).and_then(|rest| rest.strip_prefix('=')).unwrap();
                vec![value.split('.').next().unwrap().to_owned()]
            }
            Api::Freshkey => {
                let claims = BASE64_URL_SAFE_NO_PAD.decode(credential.split('.').nth(1).unwrap()).unwrap();
                let claims: Value = serde_json::from_slice(&claims).unwrap();
                vec![credential.to_owned(), claims["sec"].as_str().unwrap().to_owned()]
            }
        }
    }
}

/// Tries everything, with the credentials of [`USERS`] users.
pub async fn findings(subject: &Subject<'_>, mut credentials: impl Iterator<Item = String>) -> Findings {
    let http = &client();
    let mut fresh = || credentials.next().unwrap();
    let mut bursts = Vec::new();
    for _ in 0..TRIALS {
        bursts.push(subject.burst(&fresh()).await);
    }
    let survives_lost_answer = subject.survives_lost_answer(http, &fresh()).await;
    let replay = subject.replay(http, &fresh()).await;
    let thief_first = subject.thief_first(http, &fresh()).await;
    let held = subject.held(http, &fresh()).await;
    let mut credential = fresh();
    // What is cached at the first request is not counted.
    credential = subject.next(http, &credential, "warm").await;
    let counted = subject.server.statements(async {
        for number in 0..COUNTED {
            credential = subject.next(http, &credential, &number.to_string()).await;
        }
    });
    let (statements, rows) = counted.await;
    let forged = forged(&fresh());
    let forged = subject.server.statements(async {
        assert_eq!(subject.refresh(http, &forged, "key").await, Answer::Refused);
    });
    let (forged, _) = forged.await;
    Findings { bursts, survives_lost_answer, replay, thief_first, held, statements, rows, forged }
}

/// A credential with another signature, or another one that was never issued.
fn forged(credential: &str) -> String {
    let at = credential.rfind('.').unwrap_or(0) + 5;
    let other = if credential.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &credential[..at], &credential[at + 1..])
}
