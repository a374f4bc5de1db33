//! The mailer, over the table and an SES that keeps what it is sent.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use axum::Router;
use axum::body::Bytes;
use freshkey::Timestamp;
use freshkey::client::Client;
use freshkey::config::MailerConfig;
use freshkey::email::Email;
use freshkey::id::UserId;
use freshkey::mail::{Account, Kind, Mail, SHARDS};
use freshkey::proof::{MailToken, Proof, Purpose};
use freshkey::store::Store;
use http::{Method, StatusCode};
use mailer::{Mailer, Report};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::rows::Row;
use crate::wire::{Fate, Wire};
use crate::world::{EMAIL, PASSWORD, World, world};

const FROM: &str = "no-reply@example.com";
const RESET_URL: &str = "https://app.example.com/reset";
const CONFIRM_URL: &str = "https://app.example.com/confirm";
/// In seconds.
const LEASE: u64 = 60;
const HOUR: u64 = 3600;

/// A letter, as SES got it.
#[derive(Clone, Debug)]
struct Letter {
    to: String,
    subject: String,
    text: String,
    call: Value,
}

impl Letter {
    fn of(call: Value) -> Self {
        let text = |pointer| call.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        Self {
            to: text("/Destination/ToAddresses/0"),
            subject: text("/Content/Simple/Subject/Data"),
            text: text("/Content/Simple/Body/Text/Data"),
            call,
        }
    }

    /// The token of the letter's link, which must begin with `page`.
    #[track_caller]
    fn token(&self, page: &str) -> MailToken {
        let link = self.text.lines().find(|line| line.starts_with("https://")).expect("the letter has a link");
        let token = link.strip_prefix(page).and_then(|rest| rest.strip_prefix("#token=")).expect("the link's page");
        MailToken::parse(token).expect("a token")
    }
}

/// A system with a mailer, and the letters that SES has got.
struct Office {
    world: World,
    mailer: Arc<Mailer>,
    wire: Wire,
    letters: Arc<Mutex<Vec<Letter>>>,
    arrived: Arc<Notify>,
    endpoint: String,
}

impl Office {
    async fn open() -> Self {
        let letters = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let arrived = Arc::new(Notify::new());
        let (kept, rings) = (Arc::clone(&letters), Arc::clone(&arrived));
        let ses = Router::new().fallback(move |body: Bytes| {
            let letter = Letter::of(serde_json::from_slice(&body).unwrap());
            let answer = answer(&letter.to);
            if answer.0 == StatusCode::OK {
                kept.lock().unwrap().push(letter);
                rings.notify_one();
            }
            async { answer }
        });
        tokio::spawn(async move { axum::serve(listener, ses).await });
        let (world, wire) = (world().await, Wire::new());
        let mailer = another_mailer(&world, &wire, &endpoint).await;
        Self { world, mailer, wire, letters, arrived, endpoint }
    }

    /// A mailer beside the office's own.
    async fn another_mailer(&self, wire: &Wire) -> Arc<Mailer> {
        another_mailer(&self.world, wire, &self.endpoint).await
    }

    fn store(&self) -> &Store {
        self.world.app("refresh").store()
    }

    /// Registers a user.
    async fn register(&self, email: &str) -> Account {
        let id = self.world.register(email).await.id;
        self.account(UserId::parse(&id).unwrap()).await
    }

    /// The account of a user as it is now.
    async fn account(&self, id: UserId) -> Account {
        self.store().user(id).await.unwrap().unwrap().account()
    }

    /// Writes a mail into the outbox.
    async fn write(&self, kind: Kind, email: &str, account: Option<Account>) -> Mail {
        let client = Client { ip: "192.0.2.1".into(), user_agent: "curl/8.5.0".into() };
        let mail = Mail::new(kind, Email::parse(email).unwrap(), account, client, self.world.now());
        self.store().put_mail(&mail).await.unwrap();
        mail
    }

    /// Asks for a reset.
    async fn forget(&self, email: &str) -> Mail {
        self.write(Kind::Reset, email, None).await
    }

    async fn work(&self) -> Report {
        self.mailer.work("test").await
    }

    /// Takes the letters that SES has got.
    fn take(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.letters.lock().unwrap())
    }

    /// Takes the letters, and returns their recipients, sorted.
    fn recipients(&self) -> Vec<String> {
        let mut recipients: Vec<_> = self.take().into_iter().map(|letter| letter.to).collect();
        recipients.sort_unstable();
        recipients
    }

    /// Waits for a letter to this address.
    async fn letter_to(&self, address: &str) {
        while self.letters.lock().unwrap().iter().all(|letter| letter.to != address) {
            self.arrived.notified().await;
        }
    }

    /// Lets the leases of mailers that were killed run out.
    fn end_leases(&self) {
        self.world.pass(LEASE);
    }

    /// How many mails are in the outbox.
    async fn waiting(&self) -> usize {
        let mut count = 0;
        for shard in 0..SHARDS {
            let page = self.store().mails(shard, None, 1000, self.world.now()).await.unwrap();
            count += page.waiting.len() + page.unreadable.len();
        }
        count
    }

    async fn proof(&self, token: &MailToken) -> Proof {
        self.store().proof(token.hash()).await.unwrap().expect("the link has a proof")
    }
}

/// What SES answers to a letter. It refuses some recipients, and names them in its message.
fn answer(to: &str) -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let refused = |code, problem: &str| {
        let body = json!({ "message": format!("{problem}: {to}") }).to_string();
        (StatusCode::BAD_REQUEST, [("x-amzn-errortype", code)], body)
    };
    if to.starts_with("illegal") {
        refused("BadRequestException", "Illegal address")
    } else if to.starts_with("sandboxed") {
        refused("MessageRejected", "Email address is not verified")
    } else {
        (StatusCode::OK, [("x-amzn-requestid", "1")], json!({ "MessageId": "1" }).to_string())
    }
}

async fn another_mailer(world: &World, wire: &Wire, endpoint: &str) -> Arc<Mailer> {
    let config = MailerConfig::parse(|name| {
        let value = match name {
            "MAIL_FROM" => FROM,
            "APP_NAME" => "Example",
            "RESET_URL" => RESET_URL,
            "CONFIRM_URL" => CONFIRM_URL,
            "TABLE_NAME" => world.system.table_name(),
            "TABLE_ENDPOINT" => world.system.table_endpoint(),
            "MAIL_ENDPOINT" => endpoint,
            _ => return None,
        };
        Some(value.to_owned())
    });
    Mailer::connect(config.unwrap(), world.clock.clone(), Some(wire.client())).await
}

#[tokio::test]
async fn a_reset_is_mailed_to_the_address_as_the_account_holds_it_with_a_link_of_its_own() {
    let office = Office::open().await;
    let account = office.register("Alice@Example.com").await;
    office.forget("aLICE@example.COM").await;
    assert_eq!(office.work().await, Report { sent: 1, ..Report::default() });
    let letters = office.take();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.to, "Alice@example.com");
    assert_eq!(letter.subject, "Reset your Example password");
    assert_eq!(letter.call["FromEmailAddress"], "\"Example\" <no-reply@example.com>");
    let header = &letter.call["Content"]["Simple"]["Headers"][0];
    assert_eq!((&header["Name"], &header["Value"]), (&"Auto-Submitted".into(), &"auto-generated".into()));

    let proof = office.proof(&letter.token(RESET_URL)).await;
    let email = Email::parse(EMAIL).unwrap();
    let password_changed_at = office.store().credential(&email).await.unwrap().unwrap().password_changed_at;
    assert_eq!(proof.user_id, account.user_id);
    assert_eq!(proof.purpose, Purpose::Reset { password_changed_at });
    assert!(proof.is_open(office.world.now()));
    assert_eq!(office.waiting().await, 0);
    assert_eq!(office.work().await, Report::default());
}

#[tokio::test]
async fn an_address_without_an_account_gets_no_mail() {
    let office = Office::open().await;
    office.forget("nobody@example.com").await;
    assert_eq!(office.work().await, Report { dropped: 1, ..Report::default() });
    assert!(office.take().is_empty());
    assert_eq!(office.waiting().await, 0);
}

#[tokio::test]
async fn verify_and_change_bring_links_for_the_epoch_and_a_taken_address_gets_none() {
    let office = Office::open().await;
    let account = office.register(EMAIL).await;
    office.register("Bob@example.com").await;
    office.write(Kind::Verify, EMAIL, Some(account)).await;
    office.write(Kind::Change, "carol@example.com", Some(account)).await;
    office.write(Kind::Change, "bob@example.com", Some(account)).await;
    assert_eq!(office.work().await.sent, 3);
    let letters = office.take();
    let to = |address: &str| letters.iter().find(|letter| letter.to == address).unwrap();
    let verify = office.proof(&to(EMAIL).token(CONFIRM_URL)).await;
    assert_eq!((verify.purpose, verify.user_id), (Purpose::Verify { epoch: account.epoch }, account.user_id));
    let change = office.proof(&to("carol@example.com").token(CONFIRM_URL)).await;
    assert_eq!((change.purpose, change.user_id), (Purpose::Change { epoch: account.epoch }, account.user_id));
    assert_eq!(change.email.key(), "carol@example.com");
    let taken = to("Bob@example.com");
    assert_eq!(taken.subject, "Somebody tried to use your e-mail address for Example");
    assert!(!taken.call.to_string().contains("token"), "{taken:?}");
}

fn sent(sent: usize) -> Report {
    Report { sent, ..Report::default() }
}

#[tokio::test]
async fn ml13_a_mail_that_could_not_be_sent_is_sent_when_the_lease_has_run_out() {
    let office = Office::open().await;
    office.register(EMAIL).await;
    office.forget(EMAIL).await;
    office.wire.fault("SendEmail", usize::MAX, Fate::Refused(500, "InternalFailure"));
    assert_eq!(office.work().await, Report { left: 1, ..Report::default() });
    office.wire.heal();
    assert_eq!(office.work().await, Report::default());
    office.end_leases();
    assert_eq!(office.work().await, sent(1));
    assert_eq!(office.recipients(), [EMAIL]);
}

#[tokio::test]
async fn ml13_two_mailers_at_once_send_nothing_twice() {
    let office = Office::open().await;
    let mut addresses: Vec<_> = (0..100).map(|number| format!("user{number}@example.com")).collect();
    addresses.sort_unstable();
    for address in &addresses {
        office.write(Kind::PasswordChanged, address, None).await;
    }
    let other = office.another_mailer(&Wire::new()).await;
    let (one, two) = tokio::join!(office.work(), other.work("other"));
    assert_eq!(one.sent + two.sent, 100);
    assert!(one.sent > 0 && two.sent > 0, "{one:?} {two:?}");
    assert_eq!(office.recipients(), addresses);
}

#[tokio::test]
async fn ml13_killed_or_hindered_at_any_call_the_mailer_sends_everything_at_least_once() {
    /// The calls of a run to which nothing happens.
    const CALLS: usize = 31;
    const FAULTS: [Fate; 3] = [Fate::Lost, Fate::AnswerLost, Fate::Refused(500, "InternalFailure")];
    let office = Office::open().await;
    let alice = office.register(EMAIL).await;
    let bob = office.register("bob@example.com").await;
    office.register("carol@example.com").await;
    let mut recipients = [EMAIL, "bob@example.com", "carol@example.com", "dave@example.com"].map(str::to_owned);
    recipients.sort_unstable();
    for seed in 0..100 {
        // The limits of the run before are over.
        office.world.pass(24 * HOUR);
        office.write(Kind::PasswordChanged, EMAIL, Some(alice)).await;
        office.write(Kind::Verify, "bob@example.com", Some(bob)).await;
        office.forget("carol@example.com").await;
        office.write(Kind::Change, "dave@example.com", Some(alice)).await;
        assert!(office.work_until(seed % CALLS, None).await, "{seed}: it was not killed");
        office.end_leases();
        office.work_until(seed % 17, Some(FAULTS[seed % FAULTS.len()].clone())).await;
        office.end_leases();
        office.work().await;
        let letters = office.recipients();
        let got: BTreeSet<_> = letters.iter().cloned().collect();
        assert_eq!(Vec::from_iter(got), recipients, "{seed}");
        // Only the letters that were under way are sent again.
        assert!(letters.len() <= 3 * recipients.len(), "{seed}: {letters:?}");
    }
    assert_eq!(office.waiting().await, 0);
}

impl Office {
    /// Lets the mailer work until a call, which meets a fault or, without one, the end
    /// of the mailer. Returns whether the mailer was ended.
    async fn work_until(&self, call: usize, fault: Option<Fate>) -> bool {
        let calls = AtomicUsize::new(0);
        let ended = Arc::new(Notify::new());
        let end = Arc::clone(&ended);
        self.wire.on_call(move |_| {
            let is_hit = calls.fetch_add(1, Ordering::Relaxed) == call;
            if is_hit && fault.is_none() {
                end.notify_one();
            }
            let fate = if is_hit { fault.clone().unwrap_or(Fate::Silence) } else { Fate::Pass };
            async move { fate }
        });
        let was_ended = tokio::select! {
            _ = self.work() => false,
            () = ended.notified() => true,
        };
        self.wire.heal();
        was_ended
    }
}

#[tokio::test]
async fn ml14_one_recipient_whose_mail_fails_holds_up_nobody_elses() {
    let office = Office::open().await;
    let alice = office.register(EMAIL).await;
    let text = |text: &str| AttributeValue::S(text.into());
    // All are in one shard, and the mail of eve is the last.
    let shard = office.forget(EMAIL).await.id.shard;
    let eve = in_shard(shard, "eve");
    Row::of_user(&alice.user_id.to_string(), "PROFILE").set(&office.world, "epoch", text("many")).await;
    let unreadable = office.write(Kind::PasswordChanged, &in_shard(shard, "novel"), None).await;
    Row::mail(&unreadable.id).set(&office.world, "kind", text("novel")).await;
    for name in ["illegal", "sandboxed", "down"] {
        office.write(Kind::PasswordChanged, &in_shard(shard, name), None).await;
    }
    office.world.pass(1);
    office.write(Kind::PasswordChanged, &eve, None).await;
    office.wire.on_call(|call| {
        let is_down = call.body["Destination"]["ToAddresses"][0].as_str().is_some_and(|to| to.starts_with("down"));
        async move { if is_down { Fate::Refused(503, "ServiceUnavailable") } else { Fate::Pass } }
    });
    assert_eq!(office.work().await, Report { sent: 1, refused: 1, left: 3, ..Report::default() });
    assert_eq!(office.recipients(), [eve]);
    // What cannot be read is left for a later version, and so is what may succeed later.
    office.wire.heal();
    office.end_leases();
    assert_eq!(office.waiting().await, 4);
    assert_eq!(office.work().await, Report { sent: 1, left: 2, ..Report::default() });
    // By the clock of another system, so that the engine does not delete them as expired.
    let later = office.world.beside(&[]).await;
    later.pass(24 * HOUR);
    let mailer = another_mailer(&later, &office.wire, &office.endpoint).await;
    assert_eq!(mailer.work("test").await, Report { dropped: 1, left: 1, ..Report::default() });
}

/// An address in a shard, beginning with `name`.
fn in_shard(shard: u8, name: &str) -> String {
    let addresses = (0..).map(|number| format!("{name}{number}@example.com"));
    let shard_of = |address: &String| {
        let email = Email::parse(address).unwrap();
        Mail::new(Kind::Reset, email, None, Client::default(), Timestamp::default()).id.shard
    };
    addresses.into_iter().find(|address| shard_of(address) == shard).unwrap()
}

#[tokio::test]
async fn ml14_when_ses_throttles_the_shard_is_left_for_later() {
    let office = Office::open().await;
    for _ in 0..20 {
        office.write(Kind::PasswordChanged, EMAIL, None).await;
    }
    office.wire.fault("SendEmail", usize::MAX, Fate::Refused(429, "TooManyRequestsException"));
    let report = office.work().await;
    assert!((1..=4).contains(&report.left) && report.sent == 0, "{report:?}");
    office.wire.heal();
    office.end_leases();
    assert_eq!(office.work().await, sent(20));
}

#[tokio::test]
async fn ml14_a_request_waits_for_ses_until_it_expires() {
    let office = Office::open().await;
    office.register(EMAIL).await;
    office.forget(EMAIL).await;
    office.wire.fault("SendEmail", usize::MAX, Fate::Refused(403, "AccessDeniedException"));
    for _ in 0..15 {
        assert_eq!(office.work().await, Report { left: 1, ..Report::default() });
        office.end_leases();
    }
    office.wire.heal();
    assert_eq!(office.work().await, Report { dropped: 1, ..Report::default() });
    assert_eq!(office.waiting().await, 0);
}

#[tokio::test]
async fn ml14_ml19_a_flood_of_requests_delays_neither_a_notice_nor_the_reset_of_somebody_else() {
    let office = Office::open().await;
    office.register(EMAIL).await;
    let first = office.forget(EMAIL).await;
    let bob = in_shard(first.id.shard, "bob");
    office.register(&bob).await;
    let email = Email::parse(EMAIL).unwrap();
    let request = || Mail::new(Kind::Reset, email.clone(), None, Client::default(), first.written_at).id;
    let flood: Vec<_> = (1..10_000).map(|_| Row::mail(&request())).collect();
    Row::mail(&first.id).copy(&office.world, &flood).await;
    office.world.pass(1);
    office.forget(&bob).await;
    office.write(Kind::PasswordChanged, EMAIL, None).await;

    // The rest of the pass deletes the flood.
    tokio::select! {
        report = office.work() => panic!("the pass is over: {report:?}"),
        () = office.letter_to(&bob) => {}
    }
    let letters: Vec<_> = office.take().into_iter().map(|letter| (letter.to, letter.subject)).collect();
    let place = |to: &str, subject: &str| letters.iter().position(|letter| *letter == (to.into(), subject.into()));
    let (notice, reset) = ("Your Example password was changed", "Reset your Example password");
    assert!(place(EMAIL, notice).expect("the notice") < place(&bob, reset).expect("the reset"), "{letters:?}");
    assert_eq!(letters.iter().filter(|letter| **letter == (EMAIL.into(), reset.into())).count(), 3, "{letters:?}");
}

#[tokio::test]
async fn ml19_a_recipient_gets_one_mail_an_hour_on_request_and_two_more_up_to_ten_a_day() {
    let office = Office::open().await;
    let alice = office.register(EMAIL).await;
    let bob = office.register("bob@example.com").await;
    let mut hours = Vec::new();
    for _ in 0..25 {
        for _ in 0..3 {
            office.forget(EMAIL).await;
        }
        office.write(Kind::Verify, EMAIL, Some(alice)).await;
        office.write(Kind::Change, EMAIL, Some(bob)).await;
        let report = office.work().await;
        assert_eq!(report.sent + report.dropped, 5);
        assert_eq!(office.recipients(), vec![EMAIL; report.sent]);
        hours.push(report.sent);
        office.world.pass(HOUR);
    }
    // Resets are counted by themselves: 3 in each of 5 hours, then 1. Of the two others in
    // each hour, one is a further one, for 10 hours.
    assert_eq!(hours, [vec![5; 5], vec![3; 5], vec![2; 14], vec![5]].concat());
    assert_eq!(office.waiting().await, 0);
}

#[tokio::test]
async fn ml14_a_flood_of_requests_for_an_address_without_an_account_costs_few_looks() {
    let office = Office::open().await;
    let first = office.forget("nobody@example.com").await;
    office.world.pass(60);
    let request = || Mail::new(Kind::Reset, first.email.clone(), None, Client::default(), first.written_at).id;
    Row::mail(&first.id).copy(&office.world, &(0..300).map(|_| Row::mail(&request())).collect::<Vec<_>>()).await;
    // A link to the same address for somebody who moves there is another matter.
    let alice = office.register(EMAIL).await;
    office.write(Kind::Change, "nobody@example.com", Some(alice)).await;
    office.wire.take();
    assert_eq!(office.work().await, Report { sent: 1, dropped: 301, ..Report::default() });
    let looks = office.wire.take().operations().into_iter().filter(|operation| *operation == "GetItem").count();
    assert!(looks < 10, "{looks}");
    assert_eq!(office.recipients(), ["nobody@example.com"]);
    assert_eq!(office.waiting().await, 0);
}

#[tokio::test]
async fn a_mailer_takes_nothing_more_when_its_time_is_up() {
    let office = Office::open().await;
    office.write(Kind::PasswordChanged, EMAIL, None).await;
    assert_eq!(office.mailer.work_for(Duration::ZERO, "test").await, Report::default());
    assert_eq!(office.work().await, sent(1));
}

#[tokio::test]
async fn ml19_what_a_flood_leaves_is_deleted_but_not_a_mail_that_a_killed_mailer_has_counted() {
    let office = Office::open().await;
    office.register(EMAIL).await;
    office.world.pass(60);
    let counted = office.forget(EMAIL).await;
    // It is killed when it sends the mail, after 8 queries and 5 other calls.
    assert!(office.work_until(8 + 5, None).await);
    let email = Email::parse(EMAIL).unwrap();
    let earlier = counted.written_at - Duration::from_secs(30);
    let flood =
        (0..300).map(|_| Row::mail(&Mail::new(Kind::Reset, email.clone(), None, Client::default(), earlier).id));
    let untaken = office.forget(EMAIL).await;
    Row::mail(&untaken.id).copy(&office.world, &flood.collect::<Vec<_>>()).await;
    assert!(office.take().is_empty());
    office.end_leases();
    assert_eq!(office.work().await, Report { sent: 3, dropped: 299, ..Report::default() });
    assert_eq!(office.waiting().await, 0);
}

#[tokio::test]
async fn ml19_a_mail_that_is_tried_again_is_counted_once() {
    let office = Office::open().await;
    office.register(EMAIL).await;
    for _ in 0..3 {
        office.forget(EMAIL).await;
    }
    office.wire.fault("SendEmail", usize::MAX, Fate::Refused(500, "InternalFailure"));
    for _ in 0..4 {
        assert_eq!(office.work().await, Report { left: 3, ..Report::default() });
        office.end_leases();
    }
    office.wire.heal();
    office.forget(EMAIL).await;
    assert_eq!(office.work().await, Report { sent: 3, dropped: 1, ..Report::default() });
}

#[tokio::test]
async fn ml19_notices_are_not_limited_but_for_those_of_new_devices() {
    let office = Office::open().await;
    let alice = office.register(EMAIL).await;
    let bob = office.register("bob@example.com").await;
    for _ in 0..10 {
        office.forget(EMAIL).await;
        office.write(Kind::PasswordChanged, EMAIL, Some(alice)).await;
        office.write(Kind::NewDevice, EMAIL, Some(alice)).await;
    }
    office.write(Kind::NewDevice, "bob@example.com", Some(bob)).await;
    assert_eq!(office.work().await.sent, 3 + 10 + 1 + 1);
    office.world.pass(HOUR);
    office.write(Kind::NewDevice, EMAIL, Some(alice)).await;
    assert_eq!(office.work().await, sent(1));
}

#[tokio::test]
async fn ml9_a_link_that_waits_while_the_account_changes_is_not_sent() {
    let office = Office::open().await;
    let (world, alice) = (&office.world, office.world.register(EMAIL).await);
    let account = office.account(UserId::parse(&alice.id).unwrap()).await;
    office.forget(EMAIL).await;
    office.write(Kind::Verify, EMAIL, Some(account)).await;
    office.write(Kind::Change, "carol@example.com", Some(account)).await;
    world.pass(60);
    let body = json!({ "current_password": PASSWORD, "new_password": "eight lanterns in the winter harbour" });
    let changed = world.request(Method::PUT, "/api/v1/users/me/password").bearer(&alice.access_token).json(body);
    changed.await.expect(StatusCode::NO_CONTENT);
    assert_eq!(office.work().await, Report { dropped: 3, ..Report::default() });
    assert!(office.take().is_empty());
}
