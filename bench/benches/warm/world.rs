//! A system over a table of many users.

use std::sync::Arc;
use std::time::Duration;

use bench::member::{Member, client};
use dynoxide::types::{AttributeValue, Item};
use dynoxide::{Database, ImportOptions};
use freshkey::id::{SessionId, UserId};
use freshkey::password::{Password, PasswordHash};
use freshkey::session::Session;
use freshkey::{App, Function, SystemClock, Timestamp};
use local::{LocalClock, Options, System};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use crate::PASSWORD;
use crate::meter::Meter;

const TABLE: &str = "freshkey";
/// How many users are written at once.
const BATCH: usize = 10_000;
/// One user in so many has a second session.
const SECOND: usize = 5;

/// A system over an engine of its own, in memory, which deletes no expired items.
pub struct World {
    pub system: System,
    pub meter: Meter,
    database: Database,
    password: PasswordHash,
}

impl World {
    pub async fn start() -> Self {
        let database = Database::memory().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(dynoxide::server::serve_on(listener, database.clone()));
        let meter = Meter::new();
        let mut variables = bench::settings();
        variables.insert("MAX_SESSIONS".into(), "1000".into());
        let options = Options {
            template: local::TEMPLATE.into(),
            data: None,
            table_endpoint: Some(endpoint),
            allow_origins: Vec::new(),
            variables,
            clock: LocalClock::new(Arc::new(SystemClock)),
            http_client: Some(meter.client()),
        };
        let system = System::start(options).await.unwrap();
        let hasher = system.function("login").unwrap().app().hasher();
        let password = hasher.hash(&Password::presented(PASSWORD).unwrap()).await.unwrap();
        Self { system, meter, database, password }
    }

    pub fn function(&self, name: &str) -> &Function {
        self.system.function(name).unwrap()
    }

    fn app(&self) -> &App {
        self.function("login").app()
    }

    /// Writes a user with these sessions besides the first one.
    pub async fn member(&self, email: &str, others: impl Fn(&Session) -> Vec<Session>) -> Member {
        let member = Member::new(email, self.app());
        member.write(self.app(), &self.password, &others(&member.session)).await;
        member
    }

    /// Returns so many more live sessions of a user.
    pub fn more(&self, session: &Session, count: usize) -> Vec<Session> {
        self.opened(session, session.opened_at, count)
    }

    /// Returns so many sessions of a user that have expired a day ago.
    pub fn expired(&self, session: &Session, count: usize) -> Vec<Session> {
        let idle = self.app().config().session_lifetime.idle;
        self.opened(session, session.opened_at - idle - Duration::from_secs(86_400), count)
    }

    fn opened(&self, session: &Session, at: Timestamp, count: usize) -> Vec<Session> {
        let lifetime = self.app().config().session_lifetime;
        (0..count).map(|_| Session::open(session.user_id, session.epoch, client(), at, lifetime).0).collect()
    }

    /// Writes so many users, one in five with a second session. Returns some of them. All
    /// others are copies of one that the store has written, under random ids.
    pub async fn fill(&self, users: usize, known: usize) -> Vec<Member> {
        let mut members = Vec::new();
        for number in 0..known.min(users) {
            members.push(self.member(&format!("known{number}@example.com"), |_| Vec::new()).await);
        }
        let pattern = Arc::new(Pattern::of(self, &members[0]));
        let numbers: Vec<_> = (members.len()..users).collect();
        for batch in numbers.chunks(BATCH) {
            let (database, pattern, batch) = (self.database.clone(), Arc::clone(&pattern), batch.to_vec());
            let write = move || {
                let items = batch.into_iter().flat_map(|number| pattern.user(number)).collect();
                database.import_items(TABLE, items, ImportOptions::default()).unwrap();
            };
            spawn_blocking(write).await.unwrap();
        }
        members
    }

    /// Returns the rows of a user.
    pub fn rows(&self, member: &Member) -> Vec<Item> {
        let partition = |key: String| {
            let (mut rows, mut start) = (Vec::new(), None::<Item>);
            loop {
                let mut query = json!({
                    "TableName": TABLE,
                    "KeyConditionExpression": "pk = :pk",
                    "ExpressionAttributeValues": { ":pk": { "S": key } },
                });
                if let Some(start) = &start {
                    query["ExclusiveStartKey"] = serde_json::to_value(start).unwrap();
                }
                let page = self.database.query(serde_json::from_value(query).unwrap()).unwrap();
                rows.extend(page.items.unwrap_or_default());
                start = page.last_evaluated_key;
                if start.is_none() {
                    return rows;
                }
            }
        };
        let mut rows = partition(format!("USER#{}", member.user.id));
        rows.extend(partition(format!("EMAIL#{}", member.user.email.key())));
        rows
    }

    /// Writes rows as they once were.
    pub fn restore(&self, rows: &[Item]) {
        self.database.import_items(TABLE, rows.to_vec(), ImportOptions::default()).unwrap();
    }
}

/// The rows of a user with one session.
struct Pattern {
    user: Item,
    session: Item,
    credential: Item,
}

impl Pattern {
    fn of(world: &World, member: &Member) -> Self {
        let rows = world.rows(member);
        let row = |sk: &str| {
            let is_it = |row: &&Item| matches!(&row["sk"], AttributeValue::S(found) if found.starts_with(sk));
            rows.iter().find(is_it).unwrap().clone()
        };
        Self { user: row("PROFILE"), session: row("SESSION#"), credential: row("CREDENTIAL") }
    }

    /// Returns the rows of another user.
    fn user(&self, number: usize) -> Vec<Item> {
        let (id, email) = (UserId::random(), format!("user{number}@example.com"));
        let partition = format!("USER#{id}");
        let session =
            || with(&self.session, &[("pk", &partition), ("sk", &format!("SESSION#{}", SessionId::random()))]);
        let mut rows = vec![
            with(&self.user, &[("pk", &partition), ("email", &email), ("email_key", &email)]),
            with(&self.credential, &[("pk", &format!("EMAIL#{email}")), ("user_id", &id.to_string())]),
            session(),
        ];
        if number.is_multiple_of(SECOND) {
            rows.push(session());
        }
        rows
    }
}

fn with(row: &Item, texts: &[(&str, &str)]) -> Item {
    let mut row = row.clone();
    for (name, text) in texts {
        let old = row.insert((*name).to_owned(), AttributeValue::S((*text).to_owned()));
        assert!(old.is_some(), "a row has no {name}");
    }
    row
}
