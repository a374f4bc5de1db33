//! The mailer, over the table and an SES that keeps what it is sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use freshkey::client::Client;
use freshkey::config::MailerConfig;
use freshkey::email::Email;
use freshkey::id::UserId;
use freshkey::mail::{Account, Kind, Mail, SHARDS};
use freshkey::proof::{MailToken, Proof, Purpose};
use freshkey::store::Store;
use mailer::{Mailer, Report};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::wire::{Fate, Wire};
use crate::world::{EMAIL, World, world};

const FROM: &str = "no-reply@example.com";
const RESET_URL: &str = "https://app.example.com/reset";
const CONFIRM_URL: &str = "https://app.example.com/confirm";
const LEASE: u64 = 60;

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
    endpoint: String,
}

impl Office {
    async fn open() -> Self {
        let letters = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let kept = Arc::clone(&letters);
        let ses = Router::new().fallback(move |body: Bytes| {
            let letter = Letter::of(serde_json::from_slice(&body).unwrap());
            kept.lock().unwrap().push(letter);
            async { r#"{"MessageId":"1"}"# }
        });
        tokio::spawn(async move { axum::serve(listener, ses).await });
        let (world, wire) = (world().await, Wire::new());
        let mailer = another_mailer(&world, &wire, &endpoint).await;
        Self { world, mailer, wire, letters, endpoint }
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

    /// How many letters each recipient has got, since they were last taken.
    fn recipients(&self) -> BTreeMap<String, usize> {
        let mut recipients = BTreeMap::new();
        self.take().into_iter().for_each(|letter| *recipients.entry(letter.to).or_default() += 1);
        recipients
    }

    /// How many mails are in the outbox.
    async fn waiting(&self) -> usize {
        let mut count = 0;
        for shard in 0..SHARDS {
            count += self.store().mails(shard, None, 1000, self.world.now()).await.unwrap().waiting.len();
        }
        count
    }

    async fn proof(&self, token: &MailToken) -> Proof {
        self.store().proof(token.hash()).await.unwrap().expect("the link has a proof")
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

#[tokio::test]
async fn ml13_a_mail_that_could_not_be_sent_is_sent_when_the_lease_has_run_out() {
    let office = Office::open().await;
    office.register(EMAIL).await;
    office.forget(EMAIL).await;
    office.wire.fault("SendEmail", usize::MAX, Fate::Refused(500, "InternalFailure"));
    assert_eq!(office.work().await, Report { left: 1, ..Report::default() });
    office.wire.heal();
    assert_eq!(office.work().await, Report::default());
    office.world.pass(LEASE);
    assert_eq!(office.work().await.sent, 1);
    assert_eq!(office.take().len(), 1);
}
