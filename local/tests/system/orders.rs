//! Two requests at the same time, in every order of their reads and writes.
//!
//! Each call to DynamoDB waits at a gate. A scheduler waits until neither
//! request can go on by itself, lets one call through, waits until it is answered,
//! and so on. The two requests are run again until every sequence of such choices
//! has been made. The best-effort deletions after a transaction are ordered like
//! every other call. Two orders count as one if they differ only in neighbouring
//! calls whose order cannot matter: two reads, or calls that touch different items.
//!
//! The expected result follows from the order of two kinds of events
//! ([`Outcome::told`]): a login counts as made when it reads the credential, and an
//! end when its write is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use freshkey::auth::{Error, Identity, SignedIn};
use freshkey::client::Client;
use freshkey::email::Email;
use freshkey::id::{SessionId, UserId};
use freshkey::password::WorkFactor;
use freshkey::proof::{MailToken, Proof, Purpose};
use freshkey::session::Hash;
use freshkey::user::{Profile, User};
use freshkey::write::Write;
use freshkey::{App, Config};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};

use crate::wire::{Call, Fate, Wire};
use crate::world::{PASSWORD, World, claims, world};

/// The roles that operators give.
const PROMOTED: &str = "ROLE_PROMOTED";
const ENDED: &str = "ROLE_ENDED";
const NEW_PASSWORD: &str = "a loud brook over eight stones";
const RESET_PASSWORD: &str = "a still lake below four hills";
/// The number of turns of the runtime without any progress after which the
/// scheduler takes both requests to be waiting.
const CALM: usize = 16;

tokio::task_local! {
    /// Which of the two requests is running.
    static REQUEST: usize;
}

/// The device of a session. Alice is logged in on the phone and the laptop at first;
/// a login under test is on her tablet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Device {
    Phone,
    Laptop,
    Tablet,
}

use Device::{Laptop, Phone, Tablet};

/// A request under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Login,
    Refresh(Device),
    Logout(Device),
    ChangePassword(Device),
    EndAll(Device),
    EndOthers(Device),
    Disable,
    Delete(Device),
    /// Alice resets her password with the link in one of her mails.
    Reset(Link),
    /// Alice proves her address, on the phone.
    Verify,
    /// Alice moves her account to another address, on this device.
    Move(Device),
    /// An operator deletes Alice.
    Remove,
    /// An operator moves her account to another address.
    Rename,
    /// An operator gives her a role.
    Promote,
    /// An operator gives her another role and ends her sessions.
    Roles,
    /// An operator ends her sessions.
    Revoke,
}

/// One of two links with which Alice can reset her password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    First,
    Second,
}

use Act::{
    ChangePassword, Delete, Disable, EndAll, EndOthers, Login, Logout, Move, Promote, Refresh, Remove, Rename, Reset,
    Revoke, Roles, Verify,
};
use Link::{First, Second};

impl Act {
    /// Which of Alice's sessions it ends, once its write is carried out.
    fn end(self) -> Option<End> {
        match self {
            Login | Refresh(_) | Verify | Promote => None,
            Logout(device) => Some(End::One(device)),
            ChangePassword(device) | EndOthers(device) | Move(device) => Some(End::AllBut(device)),
            EndAll(_) | Reset(_) | Rename | Roles | Revoke => Some(End::All),
            Disable | Delete(_) | Remove => Some(End::User),
        }
    }

    /// Whether it moves the account to another address.
    fn moves(self) -> bool {
        matches!(self, Move(_) | Rename)
    }
}

enum End {
    One(Device),
    AllBut(Device),
    All,
    User,
}

/// A session, as its client holds it.
#[derive(Clone)]
struct Held {
    caller: Identity,
    refresh_token: String,
}

impl Held {
    fn of(signed_in: &SignedIn) -> Self {
        let refresh_token = signed_in.tokens.refresh_token.expose_secret().to_owned();
        let session_id = SessionId::parse(claims(&refresh_token)["sid"].as_str().unwrap()).unwrap();
        Self {
            caller: Identity { user_id: signed_in.user.id, session_id, roles: Vec::new(), email_verified: false },
            refresh_token,
        }
    }
}

/// A user with a session on each of two devices.
#[derive(Clone)]
struct Alice {
    email: String,
    /// Her own IP address, so that no limit is exceeded.
    client: Client,
    id: UserId,
    phone: Held,
    laptop: Held,
    /// The tokens of her mails.
    reset: [String; 2],
    verify: String,
    change: String,
}

impl Alice {
    fn new_email(&self) -> Email {
        Email::parse(&format!("new-{}", self.email)).unwrap()
    }

    fn on(&self, device: Device) -> &Held {
        match device {
            Phone => &self.phone,
            Laptop => &self.laptop,
            Tablet => panic!("nobody is logged in there"),
        }
    }
}

/// The result of a request for its client.
type Answer = Result<Option<Held>, Error>;

/// An app whose calls to DynamoDB stop at the gate if a request under test makes
/// them.
struct Stage {
    /// Holds the table.
    world: World,
    app: Arc<App>,
    wire: Wire,
    gate: Gate,
    users: AtomicUsize,
}

#[derive(Clone, Default)]
struct Gate(Arc<Mutex<Vec<Waiting>>>);

struct Waiting {
    request: usize,
    call: Call,
    pass: oneshot::Sender<()>,
}

impl Gate {
    async fn wait(self, call: Call) -> Fate {
        // The counters of the limits do not affect sessions.
        let is_counter = call.body["Key"]["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with("LIMIT#"));
        let request = REQUEST.try_with(|request| *request).ok();
        if let Some(request) = request.filter(|_| !is_counter) {
            let (pass, passed) = oneshot::channel();
            self.stand().push(Waiting { request, call, pass });
            passed.await.unwrap();
        }
        Fate::Pass
    }

    /// The calls that wait at the gate, without those that their request has dropped.
    fn stand(&self) -> MutexGuard<'_, Vec<Waiting>> {
        let mut stand = self.0.lock().unwrap();
        stand.retain(|waiting| !waiting.pass.is_closed());
        stand
    }
}

/// A call that is let through: its request, its operation and its items.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    request: usize,
    operation: String,
    items: BTreeSet<&'static str>,
}

const CREDENTIAL: &str = "credential";
const USER: &str = "user";
/// All links count as one item, and all mails as one.
const PROOF: &str = "proof";
const OUTBOX: &str = "outbox";
const SESSIONS: [&str; 3] = ["phone", "laptop", "tablet"];

impl Step {
    fn of(waiting: &Waiting, alice: &Alice) -> Self {
        let Waiting { request, call: Call { operation, body }, .. } = waiting;
        let members = body["TransactItems"].as_array().into_iter().flatten();
        let members = members.flat_map(|member| member.as_object().into_iter().flatten().map(|(_, member)| member));
        let keys = members.chain([body]).flat_map(|call| [&call["Key"], &call["Item"]]);
        let item = |key: &Value| match key["sk"]["S"].as_str()? {
            "PROFILE" => Some(USER),
            "CREDENTIAL" => Some(CREDENTIAL),
            "PROOF" => Some(PROOF),
            mail if key["pk"]["S"].as_str()?.starts_with("MAIL#") => (!mail.is_empty()).then_some(OUTBOX),
            session if session.ends_with(&alice.phone.caller.session_id.to_string()) => Some(SESSIONS[0]),
            session if session.ends_with(&alice.laptop.caller.session_id.to_string()) => Some(SESSIONS[1]),
            _ => Some(SESSIONS[2]),
        };
        let items = match operation.as_str() {
            "Query" => SESSIONS.into_iter().chain([USER]).collect(),
            _ => keys.filter_map(item).collect(),
        };
        Self { request: *request, operation: operation.clone(), items }
    }

    fn is_read(&self) -> bool {
        matches!(self.operation.as_str(), "GetItem" | "Query")
    }

    /// Whether the order of the two cannot matter.
    fn commutes_with(&self, other: &Self) -> bool {
        (self.is_read() && other.is_read()) || self.items.is_disjoint(&other.items)
    }
}

/// The choices of one run, from which those of the next run follow.
#[derive(Default)]
struct Choices {
    made: Vec<Choice>,
    next: usize,
}

struct Choice {
    steps: Vec<Step>,
    /// The step that is being tried.
    taken: usize,
    /// Steps that are not tried here: every order that goes on with one of them
    /// has been run with that step in an earlier, equivalent place.
    asleep: BTreeSet<usize>,
}

impl Choice {
    /// Takes the next step from `index` on that is not asleep. Returns whether there
    /// was one.
    fn take(&mut self, index: usize) -> bool {
        let awake = (index..self.steps.len()).find(|index| !self.asleep.contains(index));
        awake.inspect(|awake| self.taken = *awake).is_some()
    }

    /// Whether `step`, which waited here too, sleeps after the step that was
    /// taken: it was tried before that one, and the two commute.
    fn puts_to_sleep(&self, step: &Step) -> bool {
        let was_tried = |index: &usize| *index < self.taken || self.asleep.contains(index);
        let index = self.steps.iter().position(|waiting| waiting == step);
        index.is_some_and(|index| was_tried(&index)) && step.commutes_with(&self.steps[self.taken])
    }
}

impl Choices {
    /// The index of the next of these steps. `None` if every order that goes on from
    /// here is covered by another run.
    fn choose(&mut self, steps: &[Step]) -> Option<usize> {
        if let Some(made) = self.made.get(self.next) {
            assert_eq!(made.steps, steps, "the same choices lead to the same place");
        } else {
            let before = self.made.last();
            let sleeps = |index: &usize| before.is_some_and(|before| before.puts_to_sleep(&steps[*index]));
            let asleep = (0..steps.len()).filter(sleeps).collect();
            let mut choice = Choice { steps: steps.to_vec(), taken: 0, asleep };
            if !choice.take(0) {
                return None;
            }
            self.made.push(choice);
        }
        self.next += 1;
        Some(self.made[self.next - 1].taken)
    }

    /// Moves on to choices not yet made. Returns whether there are any.
    fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some(last) = self.made.last_mut() {
            if last.take(last.taken + 1) {
                return true;
            }
            self.made.pop();
        }
        false
    }
}

/// The outcome of one run.
struct Outcome {
    acts: [Act; 2],
    answers: [Answer; 2],
    steps: Vec<Step>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (act, answer) in self.acts.iter().zip(&self.answers) {
            write!(f, "\n  {act:?}: {:?}", answer.as_ref().map(drop))?;
        }
        for step in &self.steps {
            write!(f, "\n    {:?}: {} {:?}", self.acts[step.request], step.operation, step.items)?;
        }
        Ok(())
    }
}

/// What must be true after a run.
struct Told {
    /// The sessions that live.
    alive: BTreeSet<Device>,
    /// Whether the user is gone or disabled.
    is_locked: bool,
}

impl Stage {
    /// Starts an app whose hashes cost next to nothing.
    async fn set() -> Self {
        let world = world().await;
        let wire = Wire::new();
        let lookup = |name: &str| match name {
            "JWT_SECRET_KEY" => Some("0nly-for-this-test-Zq8vT2mXw7Lr4KcJ".to_owned()),
            "JWT_ISSUER" | "JWT_AUDIENCE" => Some("https://auth.example.com".to_owned()),
            "TABLE_NAME" => Some(world.system.table_name().to_owned()),
            "TABLE_ENDPOINT" => Some(world.system.table_endpoint().to_owned()),
            "MAIL_FROM" => Some("no-reply@example.com".to_owned()),
            _ => None,
        };
        let mut config = Config::parse(lookup).unwrap();
        config.password_work = WorkFactor { memory_kib: 8, iterations: 1 };
        let app = App::connect(config, world.clock.clone(), Some(wire.client())).await;
        let gate = Gate::default();
        wire.on_call({
            let gate = gate.clone();
            move |call| gate.clone().wait(call)
        });
        Self { world, app, wire, gate, users: AtomicUsize::new(0) }
    }

    /// A user. If an act uses a link, she has her mails, and has proven the address unless
    /// an act does.
    async fn alice(&self, acts: [Act; 2]) -> Alice {
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        let email = format!("alice{number}@example.com");
        let client = Client { ip: Ipv4Addr::from_bits(number as u32).to_string(), ..Client::default() };
        let phone = self.app.register(&email, PASSWORD, Profile::default(), client.clone()).await.unwrap();
        let laptop = self.app.login(&email, PASSWORD, client.clone(), None).await.unwrap();
        let mut alice = Alice {
            email,
            client,
            id: phone.user.id,
            phone: Held::of(&phone),
            laptop: Held::of(&laptop),
            reset: Default::default(),
            verify: String::new(),
            change: String::new(),
        };
        if acts.iter().any(|act| matches!(act, Reset(_) | Verify | Move(_))) {
            self.mail(&mut alice, &phone.user, !acts.contains(&Verify)).await;
        }
        alice
    }

    /// Gives Alice the links of her mails, and has her prove her address if `proves`.
    async fn mail(&self, alice: &mut Alice, user: &User, proves: bool) {
        alice.reset = [self.link(user, None, true).await, self.link(user, None, true).await];
        alice.verify = self.link(user, None, false).await;
        alice.change = self.link(user, Some(alice.new_email()), false).await;
        if proves {
            let proof = self.app.store().proof(MailToken::parse(&alice.verify).unwrap().hash()).await.unwrap().unwrap();
            let (attempt, now) = (Hash::of(&[b"before"]), self.world.now());
            let proven = self.app.store().verify_email(&proof, &attempt, user, now).await.unwrap();
            assert_eq!(proven, Write::Done(()));
        }
    }

    /// Makes the link of a mail to the user, or to the address that the account is to
    /// move to, and returns its token.
    async fn link(&self, user: &User, change: Option<Email>, is_reset: bool) -> String {
        let store = self.app.store();
        let credential = store.credential(&user.email).await.unwrap().unwrap();
        let purpose = match (&change, is_reset) {
            (None, true) => Purpose::Reset { password_changed_at: credential.password_changed_at },
            (None, false) => Purpose::Verify { epoch: user.epoch },
            (Some(_), _) => Purpose::Change { epoch: user.epoch },
        };
        let token = MailToken::random();
        let email = change.unwrap_or_else(|| user.email.clone());
        store.put_proof(&Proof::new(&token, user.id, email, purpose, self.world.now())).await.unwrap();
        token.expose().expose_secret().to_owned()
    }

    async fn refresh(&self, held: &Held) -> Answer {
        let key = Hash::of(&[held.refresh_token.as_bytes()]);
        let tokens = self.app.refresh(&held.refresh_token, key, Client::default()).await?;
        let refresh_token = tokens.refresh_token.expose_secret().to_owned();
        Ok(Some(Held { refresh_token, ..held.clone() }))
    }

    async fn play(&self, act: Act, alice: &Alice) -> Answer {
        let caller = |device| &alice.on(device).caller;
        match act {
            Login => {
                let signed_in = self.app.login(&alice.email, PASSWORD, alice.client.clone(), None).await?;
                return Ok(Some(Held::of(&signed_in)));
            }
            Refresh(device) => return self.refresh(alice.on(device)).await,
            Logout(device) => self.app.logout(&alice.on(device).refresh_token).await?,
            ChangePassword(device) => {
                self.app.change_password(caller(device), PASSWORD, NEW_PASSWORD, &alice.client, None).await?
            }
            EndAll(device) => self.app.end_sessions(caller(device), false).await?,
            EndOthers(device) => self.app.end_sessions(caller(device), true).await?,
            Disable => self.app.disable_user(alice.id).await?,
            Remove => self.app.remove_user(alice.id).await?,
            Rename => drop(self.app.rename_user(alice.id, alice.new_email().as_str()).await?),
            Promote => drop(self.app.change_roles(alice.id, &[PROMOTED.into()], &[], false).await?),
            Roles => drop(self.app.change_roles(alice.id, &[ENDED.into()], &[], true).await?),
            Revoke => self.app.revoke_sessions(alice.id).await?,
            Delete(device) => self.app.delete_user(caller(device), PASSWORD, &alice.client, None).await?,
            Reset(link) => {
                let attempt = Hash::of(&[format!("{link:?}").as_bytes()]);
                let token = &alice.reset[link as usize];
                self.app.reset_password(token, RESET_PASSWORD, &attempt, alice.client.clone()).await?
            }
            Verify | Move(_) => {
                let (device, token) = match act {
                    Move(device) => (device, &alice.change),
                    _ => (Phone, &alice.verify),
                };
                let attempt = Hash::of(&[token.as_bytes()]);
                drop(self.app.confirm_email(caller(device), token, &attempt, alice.client.clone()).await?)
            }
        }
        Ok(None)
    }

    /// Runs the two `acts` at the same time, in the order of `choices`. `None` if
    /// another run covers this order.
    async fn tell(self: &Arc<Self>, acts: [Act; 2], alice: &Alice, choices: &mut Choices) -> Option<Outcome> {
        // A call that waits at the gate must not time out, so time is paused. It does
        // not advance as long as the runtime never idles.
        tokio::time::pause();
        let requests = [0, 1].map(|request| {
            let (stage, alice) = (Arc::clone(self), alice.clone());
            let play = async move { stage.play(acts[request], &alice).await };
            tokio::spawn(REQUEST.scope(request, play))
        });
        let mut told = Vec::new();
        let is_new = loop {
            self.settle(&requests).await;
            let mut waiting = self.gate.stand();
            waiting.sort_by_key(|waiting| Step::of(waiting, alice));
            let steps: Vec<_> = waiting.iter().map(|waiting| Step::of(waiting, alice)).collect();
            if steps.is_empty() {
                break true;
            }
            let Some(chosen) = choices.choose(&steps) else { break false };
            told.push(steps[chosen].clone());
            waiting.remove(chosen).pass.send(()).unwrap();
        };
        tokio::time::resume();
        if !is_new {
            requests.iter().for_each(JoinHandle::abort);
            self.gate.stand().clear();
            return None;
        }
        let [first, second] = requests;
        Some(Outcome { acts, answers: [first.await.unwrap(), second.await.unwrap()], steps: told })
    }

    /// Waits until every request has been answered or waits at the gate, and no
    /// call or hash is under way. A login may leave the gate when its hash shows
    /// that the password is wrong.
    async fn settle(&self, requests: &[JoinHandle<Answer>; 2]) {
        let mut calm = 0;
        while calm < CALM {
            yield_now().await;
            let waiting = self.gate.stand();
            let is_at_rest = |(request, task): (usize, &JoinHandle<_>)| {
                task.is_finished() || waiting.iter().any(|waiting| waiting.request == request)
            };
            let is_idle = self.wire.in_flight() == waiting.len() && self.app.hasher().is_idle();
            let is_calm = is_idle && requests.iter().enumerate().all(is_at_rest);
            calm = if is_calm { calm + 1 } else { 0 };
        }
    }

    /// Checks, as a client would, which of Alice's sessions are alive.
    async fn check(&self, alice: &Alice, outcome: &Outcome) {
        let told = outcome.told();
        let mut held = BTreeMap::from([(Phone, alice.phone.clone()), (Laptop, alice.laptop.clone())]);
        for (act, answer) in outcome.acts.iter().zip(&outcome.answers) {
            if let (Login | Refresh(_), Ok(Some(latest))) = (act, answer) {
                held.insert(if let Refresh(device) = act { *device } else { Tablet }, latest.clone());
            }
        }
        let ids = |devices: &BTreeSet<Device>| -> BTreeSet<SessionId> {
            let held = held.iter().filter(|(device, _)| devices.contains(device));
            held.map(|(_, held)| held.caller.session_id).collect()
        };

        let listed = self.app.sessions(&alice.phone.caller).await;
        match listed {
            Ok(listed) => {
                assert!(!told.is_locked, "{outcome}");
                let listed: BTreeSet<_> = listed.iter().map(|session| session.id).collect();
                assert_eq!(listed, ids(&told.alive), "the list has exactly the live sessions{outcome}");
            }
            Err(error) => assert!(told.is_locked && error == Error::InvalidToken { was_sent: true }, "{outcome}"),
        }

        let (_, rows) = self.app.store().user_and_sessions(alice.id).await.unwrap();
        let rows: BTreeSet<_> = rows.iter().map(|row| row.id).collect();
        let mut ghosts = &rows - &ids(&told.alive);
        // The row of a login that lost the race may be written after the sweep.
        for late in ids(&BTreeSet::from([Tablet])) {
            ghosts.remove(&late);
        }
        assert!(ghosts.is_empty() && rows.is_superset(&ids(&told.alive)), "the rows match the live sessions{outcome}");

        let login = async |email: &str, password| {
            let login = self.app.login(email, password, alice.client.clone(), None).await;
            login
                .map(|signed_in| signed_in.user)
                .map_err(|error| assert_eq!(error, Error::InvalidCredentials, "{outcome}"))
        };
        let (has_moved, new_email) = (outcome.has_done(Act::moves), alice.new_email());
        let email = if has_moved { new_email.as_str() } else { &alice.email };
        let other = if has_moved { &alice.email } else { new_email.as_str() };
        let password = if outcome.has_done(|act| matches!(act, Reset(_))) {
            RESET_PASSWORD
        } else if outcome.has_done(|act| matches!(act, ChangePassword(_))) {
            NEW_PASSWORD
        } else {
            PASSWORD
        };
        if outcome.acts.iter().any(|act| act.moves()) {
            assert!(login(other, password).await.is_err(), "{outcome}");
        }
        if told.is_locked || password != PASSWORD {
            assert!(login(email, PASSWORD).await.is_err(), "{outcome}");
        }
        if !told.is_locked && outcome.acts.iter().any(|act| matches!(act, Verify | Move(_) | Reset(_))) {
            let was_proven = !outcome.acts.contains(&Verify);
            let is_proven = was_proven || outcome.has_done(|act| matches!(act, Verify | Move(_) | Reset(_)));
            let is_proven = is_proven && !outcome.has_done(|act| act == Rename);
            assert_eq!(login(email, password).await.map(|user| user.is_verified()), Ok(is_proven), "{outcome}");
        }
        for (given, role) in [(Promote, PROMOTED), (Roles, ENDED)] {
            if outcome.has_done(|act| act == given) && !outcome.has_done(|act| matches!(act, Delete(_) | Remove)) {
                let roles = self.app.store().user(alice.id).await.unwrap().unwrap().roles;
                assert!(roles.iter().any(|had| had == role), "{roles:?}{outcome}");
            }
        }
        if outcome.has_done(|act| act == Disable) && !outcome.has_done(|act| matches!(act, Delete(_) | Remove)) {
            // Enabling the user again must revive no session.
            self.app.enable_user(alice.id).await.unwrap();
        }
        for (device, held) in &held {
            let is_alive = self.refresh(held).await.is_ok();
            assert_eq!(is_alive, told.alive.contains(device), "{device:?}{outcome}");
        }
    }
}

impl Outcome {
    /// The index of the step by which this act takes effect, if it has any.
    fn moment(&self, request: usize) -> Option<usize> {
        self.answers[request].as_ref().ok()?;
        let operation = match self.acts[request] {
            Login => "GetItem",
            Logout(_) => "DeleteItem",
            Refresh(_) => return None,
            Promote => "UpdateItem",
            _ => "TransactWriteItems",
        };
        self.steps.iter().rposition(|step| step.request == request && step.operation == operation)
    }

    fn has_done(&self, is_one: impl Fn(Act) -> bool) -> bool {
        self.acts.iter().zip(&self.answers).any(|(act, answer)| is_one(*act) && answer.is_ok())
    }

    /// What must be true, given the answers and the order of the steps.
    fn told(&self) -> Told {
        let mut told = Told { alive: BTreeSet::from([Phone, Laptop]), is_locked: false };
        let mut moments: Vec<_> =
            [0, 1].into_iter().filter_map(|request| Some((self.moment(request)?, self.acts[request]))).collect();
        moments.sort_by_key(|(moment, _)| *moment);
        let mut is_old_password_right = true;
        for (_, act) in moments {
            match act.end() {
                None if act == Verify => assert!(!told.is_locked, "{self}"),
                None if act == Promote => {}
                None => {
                    assert!(!told.is_locked && is_old_password_right, "a login that should have failed{self}");
                    told.alive.insert(Tablet);
                }
                Some(End::One(device)) => drop(told.alive.remove(&device)),
                Some(End::All) => {
                    let is_by_operator = matches!(act, Rename | Roles | Revoke);
                    assert!(!told.is_locked || is_by_operator, "{self}");
                    told.alive.clear();
                    is_old_password_right &= !matches!(act, Reset(_) | Rename);
                }
                Some(End::AllBut(device)) => {
                    assert!(told.alive.contains(&device), "a session that was ended kept itself{self}");
                    told.alive.retain(|session| *session == device);
                    is_old_password_right &= !matches!(act, ChangePassword(_) | Move(_));
                }
                Some(End::User) => {
                    told.alive.clear();
                    told.is_locked = true;
                }
            }
        }
        told
    }

    /// Checks that clients may get these answers.
    fn check_answers(&self) {
        for (request, answer) in self.answers.iter().enumerate() {
            let (act, other) = (self.acts[request], 1 - request);
            match answer {
                Err(Error::Unavailable { .. } | Error::Internal(_)) => panic!("an error that no client may get{self}"),
                // Only the other request can be the reason for a refusal.
                Err(_) => assert!(self.answers[other].is_ok(), "refused for no reason{self}"),
                Ok(_) => {}
            }
            if let Refresh(device) = act {
                self.check_refresh(request, device);
            }
        }
    }

    /// Checks that a session that lives on is refreshed in any order, and that one
    /// that was ended is refused if the refresh sees anything that the end wrote.
    fn check_refresh(&self, request: usize, device: Device) {
        let is_answered = self.answers[request].is_ok();
        let lives = self.told().alive.contains(&device);
        assert!(is_answered || !lives, "the session lives{self}");
        let Some(end) = self.moment(1 - request) else { return };
        let (before, since) = self.steps.split_at(end);
        if since.iter().all(|step| step.request != request) {
            assert!(is_answered, "the refresh was over before the end was written{self}");
        }
        let sees_the_end = |step: &Step| step.request == request && !step.commutes_with(&since[0]);
        if !lives && since.iter().any(sees_the_end) && !before.iter().any(sees_the_end) {
            assert!(!is_answered, "the refresh began after the end was written{self}");
        }
    }
}

/// Runs the two acts in every order, and returns the number of orders.
async fn in_every_order(stage: &Arc<Stage>, acts: [Act; 2]) -> usize {
    let mut choices = Choices::default();
    let mut orders = 0;
    loop {
        let alice = stage.alice(acts).await;
        if let Some(outcome) = stage.tell(acts, &alice, &mut choices).await {
            outcome.check_answers();
            stage.check(&alice, &outcome).await;
            orders += 1;
        }
        if !choices.advance() {
            return orders;
        }
    }
}

async fn each(pairs: &[[Act; 2]]) {
    let stage = Arc::new(Stage::set().await);
    for acts in pairs {
        let orders = in_every_order(&stage, *acts).await;
        assert!(orders > 1, "{acts:?}");
    }
}

#[tokio::test]
async fn every_order_that_makes_a_difference_is_told_once() {
    let stage = Arc::new(Stage::set().await);
    // Of a login's three calls, only the Query touches the session that is deleted.
    assert_eq!(in_every_order(&stage, [Logout(Laptop), Login]).await, 2);
    // Of a refresh's two calls, only the write does.
    assert_eq!(in_every_order(&stage, [Logout(Laptop), Refresh(Laptop)]).await, 2);
}

#[tokio::test]
async fn rf7_a_password_change_against_logins_and_refreshes() {
    each(&[Login, Refresh(Phone), Refresh(Laptop)].map(|other| [ChangePassword(Phone), other])).await;
}

#[tokio::test]
async fn rf7_logging_out_everywhere_against_logins_and_refreshes() {
    each(&[Login, Refresh(Phone), Refresh(Laptop)].map(|other| [EndAll(Phone), other])).await;
    each(&[Login, Refresh(Phone), Refresh(Laptop)].map(|other| [EndOthers(Phone), other])).await;
}

#[tokio::test]
async fn rf10_disabling_and_deleting_a_user_against_logins_and_refreshes() {
    each(&[Login, Refresh(Phone), Refresh(Laptop)].map(|other| [Disable, other])).await;
    each(&[Login, Refresh(Phone), Refresh(Laptop)].map(|other| [Delete(Phone), other])).await;
}

#[tokio::test]
async fn rf7_ends_that_keep_the_same_session_against_one_another() {
    each(&[
        [ChangePassword(Phone), EndOthers(Phone)],
        [ChangePassword(Phone), EndAll(Phone)],
        [EndOthers(Phone), EndAll(Phone)],
        [EndOthers(Phone), EndOthers(Phone)],
    ])
    .await;
}

#[tokio::test]
async fn rf7_a_session_that_was_just_ended_does_not_lift_itself() {
    each(&[
        [EndOthers(Phone), EndOthers(Laptop)],
        [EndAll(Phone), EndOthers(Laptop)],
        [ChangePassword(Phone), EndOthers(Laptop)],
        [EndOthers(Phone), ChangePassword(Laptop)],
        [ChangePassword(Phone), ChangePassword(Laptop)],
        [Logout(Laptop), EndOthers(Laptop)],
        [Logout(Laptop), ChangePassword(Laptop)],
        [Logout(Laptop), Refresh(Laptop)],
    ])
    .await;
}

#[tokio::test]
async fn rf10_disabling_and_deleting_a_user_against_other_ends() {
    each(&[
        [Disable, ChangePassword(Phone)],
        [Disable, EndAll(Phone)],
        [Disable, EndOthers(Phone)],
        [Disable, Delete(Phone)],
        [Delete(Phone), ChangePassword(Phone)],
        [Delete(Phone), EndAll(Phone)],
        [Delete(Phone), EndOthers(Phone)],
    ])
    .await;
}

#[tokio::test]
async fn ml16_a_reset_against_a_login_and_the_end_of_sessions() {
    each(&[Login, EndAll(Phone), Disable].map(|other| [Reset(First), other])).await;
}

#[tokio::test]
async fn ml16_a_reset_against_another_change_of_the_account() {
    each(&[Reset(Second), ChangePassword(Phone), Delete(Phone)].map(|other| [Reset(First), other])).await;
}

#[tokio::test]
async fn ml16_a_move_against_another_change_of_the_account() {
    each(&[Reset(First), ChangePassword(Laptop), Move(Laptop)].map(|other| [Move(Phone), other])).await;
}

#[tokio::test]
async fn ml16_a_move_against_the_end_of_the_user() {
    each(&[Disable, Delete(Laptop)].map(|other| [Move(Phone), other])).await;
}

#[tokio::test]
async fn ml16_a_verification_against_another_one_and_the_end_of_sessions() {
    each(&[Verify, EndAll(Laptop)].map(|other| [Verify, other])).await;
}

#[tokio::test]
async fn op4_what_an_operator_does_against_logins_and_refreshes() {
    for act in [Remove, Rename, Roles, Revoke] {
        each(&[[act, Login], [act, Refresh(Phone)]]).await;
    }
}

#[tokio::test]
async fn op4_what_an_operator_does_against_other_changes_of_the_account() {
    each(&[
        [Remove, ChangePassword(Phone)],
        [Remove, Rename],
        [Rename, ChangePassword(Phone)],
        [Rename, Move(Phone)],
        [Rename, Reset(First)],
        [Rename, Verify],
        [Promote, Roles],
        [Promote, Disable],
        [Promote, Remove],
        [Roles, EndOthers(Phone)],
        [Revoke, ChangePassword(Phone)],
    ])
    .await;
}
