//! Several clients of one user at once, over the real store.
//!
//! A history is played in one of two ways ([`Pace`]). Step by step, each request and each
//! call to DynamoDB waits at a gate, and the seed decides which go on next: one, or a few
//! together. The seed also decides what goes wrong on the way, and when time passes. At
//! liberty, requests and calls run in parallel on several threads, after delays.
//!
//! A seed plays nearly the same history again, but not quite: calls that pass together race, and
//! the SDK pauses for a random time before a retry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use freshkey::auth::{Error, Identity};
use freshkey::client::Client;
use freshkey::config::DEADLINE;
use freshkey::id::{SessionId, UserId};
use freshkey::password::{Password, PasswordHash, WorkFactor};
use freshkey::session::{Hash, Session};
use freshkey::token::{KeyRing, RefreshToken};
use freshkey::user::{Credential, Profile, User};
use freshkey::{App, Config};
use futures_util::future::BoxFuture;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};

use super::account::{Answer, Op, Token};
use super::record::{History, Operation};
use crate::wire::{Call, Fate, Late, Memory, Wire};
use crate::world::{World, claims, world};

const SECRET: &str = "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ";
/// The number of turns of the runtime without any progress after which all requests count
/// as waiting.
const CALM: usize = 16;
/// The same if a request waits neither at the gate nor for an answer: it may pause before a retry.
const LONG_CALM: usize = 64;
pub const MOST_CLIENTS: usize = 4;
/// The most operations of one client.
pub const MOST_OPERATIONS: usize = 4;

tokio::task_local! {
    /// The client whose request is running.
    static CLIENT: usize;
}

/// How a history is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    StepByStep,
    AtLiberty,
}

/// Random numbers, the same for the same seed (SplitMix64, by Steele, Lea and Flood).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        (self.next() % sides as u64) as usize
    }

    /// Dice of their own for the part `number`.
    fn part(&self, number: usize) -> Self {
        Self(Self(self.0 ^ (number as u64 + 1).wrapping_mul(0xd6e8_feb8_6659_fd93)).next())
    }
}

/// Something that no DynamoDB does to a call of a client. `None`: nothing is done to this one.
pub type Fault = fn(Arc<Play>, usize, Call) -> BoxFuture<'static, Option<Fate>>;

/// What a history is about.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    pub pace: Pace,
    /// Whether calls are lost, refused, held up and repeated.
    pub has_trouble: bool,
    pub fault: Option<Fault>,
    /// Operations that are left out: the client, and which of its operations.
    pub omitted: BTreeSet<(usize, usize)>,
}

impl Script {
    /// The script of this seed over a DynamoDB that works.
    pub fn of(seed: u64, pace: Pace) -> Self {
        Self { seed, pace, has_trouble: !seed.is_multiple_of(3), fault: None, omitted: BTreeSet::new() }
    }
}

/// Two instances of the system on one table, whose password hashes cost next to nothing.
pub struct Stage {
    pub world: World,
    apps: [Arc<App>; 2],
    wire: Wire,
    ring: KeyRing,
    password_hash: PasswordHash,
    users: AtomicUsize,
}

impl Stage {
    pub async fn set() -> Arc<Self> {
        let world = world().await;
        let wire = Wire::new();
        let lookup = |name: &str| match name {
            "JWT_SECRET_KEY" => Some(SECRET.to_owned()),
            "JWT_ISSUER" | "JWT_AUDIENCE" => Some("https://auth.example.com".to_owned()),
            "TABLE_NAME" => Some(world.system.table_name().to_owned()),
            "TABLE_ENDPOINT" => Some(world.system.table_endpoint().to_owned()),
            _ => name.starts_with("LIMIT_").then(|| "1000".to_owned()),
        };
        let connect = async || {
            let mut config = Config::parse(lookup).unwrap();
            config.password_work = WorkFactor { memory_kib: 8, iterations: 1 };
            App::connect(config, world.clock.clone(), Some(wire.client())).await
        };
        let apps = [connect().await, connect().await];
        let ring = KeyRing::single(&SECRET.into()).unwrap();
        let password_hash = apps[0].hasher().hash(&password(0)).await.unwrap();
        Arc::new(Self { world, apps, wire, ring, password_hash, users: AtomicUsize::new(0) })
    }

    /// Plays a history of a new user.
    pub async fn play(self: &Arc<Self>, script: Script) -> History {
        let mut dice = Dice::new(script.seed);
        let clients = 2 + dice.roll(MOST_CLIENTS - 1);
        let sessions = 1 + dice.roll(3);
        let pace = script.pace;
        let play = Arc::new(Play::open(Arc::clone(self), script, sessions).await);
        let hooked = Arc::clone(&play);
        self.wire.on_call(move |call| Arc::clone(&hooked).meet(call));

        if pace == Pace::StepByStep {
            tokio::time::pause();
        }
        let spawn = |client, play: &Arc<Play>, ops: Vec<Option<Op>>| {
            tokio::spawn(CLIENT.scope(client, Arc::clone(play).act(client, ops)))
        };
        let improvised = (0..clients).map(|client| spawn(client, &play, vec![None; 1 + dice.roll(MOST_OPERATIONS)]));
        let tasks: Vec<_> = improvised.collect();
        play.direct(tasks, &mut dice).await;
        let last = play.cast().last_questions();
        play.direct(vec![spawn(clients, &play, last)], &mut dice).await;
        if pace == Pace::StepByStep {
            tokio::time::resume();
        }
        self.wire.heal();
        let record = play.record.lock().unwrap();
        record.history.clone()
    }
}

/// Waits without letting the runtime idle, because paused time would pass then.
async fn busy<T>(future: impl Future<Output = T>) -> T {
    let turns = async {
        loop {
            yield_now().await;
        }
    };
    tokio::select! {
        done = future => done,
        () = turns => unreachable!("it has no end"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn password(number: usize) -> Password {
    Password::presented(&password_text(number)).unwrap()
}

fn password_text(number: usize) -> String {
    format!("a quiet river under {number} bridges")
}

/// One history while it is played.
pub struct Play {
    pub stage: Arc<Stage>,
    script: Script,
    pub user: UserId,
    email: String,
    client: Client,
    gate: Mutex<Vec<Waiting>>,
    late: Mutex<Vec<HeldUp>>,
    record: Mutex<Record>,
    cast: Mutex<Cast>,
    /// Earlier answers, for a fault that gives them again.
    pub memory: Memory,
}

/// A request or a call at the gate.
struct Waiting {
    client: usize,
    /// `None` for a request.
    call: Option<Call>,
    pass: oneshot::Sender<Fate>,
}

/// What comes next in a history that is played step by step.
enum Step {
    Done,
    /// Requests or calls have passed the gate.
    Passed,
    /// A call that was held up arrives.
    Arrival(HeldUp),
    /// So much time passes.
    Time(Duration),
}

/// A call that is held up on the way.
struct HeldUp {
    operation: usize,
    call: Call,
    late: Arc<Late>,
}

#[derive(Default)]
struct Record {
    moment: usize,
    history: History,
    /// The operation that each client is waiting for.
    current: BTreeMap<usize, usize>,
}

impl Record {
    fn tick(&mut self) -> usize {
        self.moment += 1;
        self.moment
    }
}

/// What the clients know.
#[derive(Default)]
struct Cast {
    ids: Vec<SessionId>,
    texts: Vec<String>,
    /// The tokens of each session that a client got.
    held: BTreeMap<usize, Vec<Token>>,
    /// The attempt that clients keep for a session and a generation.
    kept: BTreeMap<(usize, u64), usize>,
    attempts: usize,
    passwords: usize,
    /// The password that was last changed to, as far as clients know.
    password: usize,
}

impl Cast {
    /// The number of a session.
    fn session(&mut self, id: SessionId) -> usize {
        self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        })
    }

    fn token(&mut self, text: &str) -> Token {
        let claims = claims(text);
        let session = self.session(SessionId::parse(claims["sid"].as_str().unwrap()).unwrap());
        let generation = claims["gen"].as_u64().unwrap();
        let text = self.texts.iter().position(|known| known == text).unwrap_or_else(|| {
            self.texts.push(text.to_owned());
            self.texts.len() - 1
        });
        Token { session, generation, text }
    }

    fn hold(&mut self, token: Token) {
        let tokens = self.held.entry(token.session).or_default();
        if !tokens.contains(&token) {
            tokens.push(token);
            tokens.sort_by_key(|token| token.generation);
        }
    }

    fn fresh_attempt(&mut self) -> usize {
        self.attempts += 1;
        self.attempts
    }

    /// The next operation of a client.
    fn choose(&mut self, dice: &mut Dice) -> Op {
        let sessions: Vec<_> = self.held.keys().copied().collect();
        let session = sessions[dice.roll(sessions.len())];
        match dice.roll(100) {
            0..54 => {
                let tokens = &self.held[&session];
                let newest = tokens[tokens.len() - 1];
                let token = if dice.roll(6) > 0 { newest } else { tokens[dice.roll(tokens.len())] };
                let fresh = self.fresh_attempt();
                let attempt = match dice.roll(4) {
                    0 => fresh,
                    _ => *self.kept.entry((token.session, token.generation)).or_insert(fresh),
                };
                Op::Refresh { token, attempt }
            }
            54..61 => Op::Logout { session },
            61..66 => Op::EndAll,
            66..75 => Op::EndOthers { kept: session },
            75..83 => {
                let current = self.guess(dice);
                self.passwords += 1;
                Op::ChangePassword { kept: session, current, new: self.passwords }
            }
            83..92 => Op::Login { password: self.guess(dice) },
            92..95 => Op::Disable,
            _ => Op::Enable,
        }
    }

    /// Mostly the right password.
    fn guess(&self, dice: &mut Dice) -> usize {
        if dice.roll(6) > 0 { self.password } else { dice.roll(self.passwords + 1) }
    }

    /// Which sessions are alive at last. The user is enabled before, which must revive none.
    fn last_questions(&mut self) -> Vec<Option<Op>> {
        let newest: Vec<_> = self.held.values().map(|tokens| tokens[tokens.len() - 1]).collect();
        let refresh = |token| Op::Refresh { token, attempt: self.fresh_attempt() };
        [Op::Enable].into_iter().chain(newest.into_iter().map(refresh)).map(Some).collect()
    }
}

impl Play {
    /// Seeds a user with these sessions.
    async fn open(stage: Arc<Stage>, script: Script, sessions: usize) -> Self {
        let number = stage.users.fetch_add(1, Ordering::Relaxed);
        let (now, app) = (stage.world.now(), &stage.apps[0]);
        let email = format!("user-{number}@example.com");
        let user = User {
            id: UserId::random(),
            email: freshkey::email::Email::parse(&email).unwrap(),
            email_verified: None,
            roles: vec!["ROLE_USER".into()],
            is_active: true,
            epoch: 0,
            profile: Profile::default(),
            created_at: now.truncated(),
            imported_at: None,
        };
        let lifetime = app.config().session_lifetime;
        let (mut cast, mut rows, mut first) = (Cast::default(), Vec::new(), Vec::new());
        for _ in 0..sessions {
            let (session, secret) = Session::open(user.id, 0, Client::default(), now, lifetime);
            let token = RefreshToken::first(&session, secret, lifetime.absolute_end(session.created_at));
            let text = app.config().refresh_tokens.sign(&stage.ring, &token).unwrap();
            let token = cast.token(text.expose_secret());
            cast.hold(token);
            first.push(token);
            rows.push(session);
        }
        let credential = Credential::new(&user, stage.password_hash.clone(), now);
        let store = stage.world.app("refresh").store();
        store.seed_user(&user, &credential, &rows.iter().collect::<Vec<_>>()).await.unwrap();
        let client = Client { ip: format!("203.0.113.{}", number % 256), ..Client::default() };
        let history = History { first, ..History::default() };
        Self {
            script,
            user: user.id,
            email,
            client,
            gate: Mutex::default(),
            late: Mutex::default(),
            record: Mutex::new(Record { history, ..Record::default() }),
            cast: Mutex::new(cast),
            memory: Memory::default(),
            stage,
        }
    }

    fn cast(&self) -> MutexGuard<'_, Cast> {
        self.cast.lock().unwrap()
    }

    /// What waits at the gate, without what has timed out there.
    fn gate(&self) -> MutexGuard<'_, Vec<Waiting>> {
        let mut gate = self.gate.lock().unwrap();
        gate.retain(|waiting| !waiting.pass.is_closed());
        gate
    }

    /// Waits at the gate, and returns what happens then.
    async fn wait(&self, client: usize, call: Option<Call>) -> Fate {
        let (pass, passed) = oneshot::channel();
        self.gate().push(Waiting { client, call, pass });
        passed.await.unwrap()
    }

    /// Performs operations as this client, each once the one before is done; `None` is one
    /// that the client chooses when its turn comes.
    async fn act(self: Arc<Self>, client: usize, ops: Vec<Option<Op>>) {
        for (number, op) in ops.into_iter().enumerate() {
            if self.script.omitted.contains(&(client, number)) {
                continue;
            }
            let mut dice = Dice::new(self.script.seed).part(client * 100 + number);
            let app = Arc::clone(&self.stage.apps[dice.roll(2)]);
            // The answer to the last questions always arrives.
            let is_answer_lost = op.is_none() && self.script.has_trouble && dice.roll(12) == 0;
            if self.script.pace == Pace::StepByStep {
                self.wait(client, None).await;
            }
            // No two tokens are issued in the same second.
            self.stage.world.pass(1);
            let op = op.unwrap_or_else(|| self.cast().choose(&mut dice));
            let index = {
                let mut record = self.record.lock().unwrap();
                let (begun, index) = (record.tick(), record.history.operations.len());
                // A call that is slow on several threads may time out while it is carried out.
                let is_repeated = self.script.pace == Pace::AtLiberty;
                let (ended, answer, may_arrive_late) = (None, None, false);
                let operation = Operation { client, op, begun, ended, answer, is_repeated, may_arrive_late };
                record.history.operations.push(operation);
                record.current.insert(client, index);
                index
            };
            let answer = tokio::time::timeout(DEADLINE, self.perform(&app, op)).await.ok().flatten();
            let answer = answer.filter(|_| !is_answer_lost);
            let mut record = self.record.lock().unwrap();
            let ended = record.tick();
            record.current.remove(&client);
            let operation = &mut record.history.operations[index];
            (operation.ended, operation.answer) = (Some(ended), answer);
            let mut cast = self.cast();
            match (op, answer) {
                (_, Some(Answer::Issued(token))) => cast.hold(token),
                (Op::ChangePassword { new, .. }, Some(Answer::Done)) => cast.password = new,
                _ => {}
            }
        }
    }

    /// Performs one operation. `None` if its outcome is unknown.
    async fn perform(&self, app: &App, op: Op) -> Option<Answer> {
        let client = self.client.clone();
        let caller = |session: usize| Identity {
            user_id: self.user,
            session_id: self.cast().ids[session],
            roles: Vec::new(),
            email_verified: false,
        };
        let text = |token: Token| self.cast().texts[token.text].clone();
        let done = |()| Answer::Done;
        let answer = match op {
            Op::Login { password } => {
                let login = app.login(&self.email, &password_text(password), client, None).await;
                login.map(|signed_in| Answer::Issued(self.cast().token(signed_in.tokens.refresh_token.expose_secret())))
            }
            Op::Refresh { token, attempt } => {
                let refreshed = app.refresh(&text(token), Hash::of(&[&attempt.to_be_bytes()]), client).await;
                refreshed.map(|tokens| Answer::Issued(self.cast().token(tokens.refresh_token.expose_secret())))
            }
            Op::Logout { session } => {
                let any = self.cast().held[&session][0];
                app.logout(&text(any)).await.map(done)
            }
            Op::EndAll => app.end_sessions(&caller(0), false).await.map(done),
            Op::EndOthers { kept } => app.end_sessions(&caller(kept), true).await.map(done),
            Op::ChangePassword { kept, current, new } => {
                let (current, new) = (password_text(current), password_text(new));
                app.change_password(&caller(kept), &current, &new, &client, None).await.map(done)
            }
            Op::Disable => app.disable_user(self.user).await.map(done),
            Op::Enable => app.enable_user(self.user).await.map(done),
        };
        match answer {
            Ok(answer) => Some(answer),
            Err(Error::InvalidRefreshToken { .. } | Error::InvalidToken { .. } | Error::InvalidCredentials) => {
                Some(Answer::Refused)
            }
            Err(Error::Validation(_)) if matches!(op, Op::ChangePassword { .. }) => Some(Answer::WrongPassword),
            // An operator is told that the user keeps changing.
            Err(Error::Validation(_)) if op == Op::Disable => None,
            Err(Error::Unavailable { .. }) => None,
            Err(error) => panic!("{op}: {error}"),
        }
    }

    /// Decides the fate of a call.
    async fn meet(self: Arc<Self>, call: Call) -> Fate {
        // The counters of the limits do not affect sessions.
        let is_counter = call.body["Key"]["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with("LIMIT#"));
        let Some(client) = CLIENT.try_with(|client| *client).ok().filter(|_| !is_counter) else {
            return Fate::Pass;
        };
        let fate = match self.script.pace {
            Pace::StepByStep => self.wait(client, Some(call.clone())).await,
            Pace::AtLiberty => {
                let mut dice = Dice::new(self.script.seed).part(1000 + self.record.lock().unwrap().tick());
                tokio::time::sleep(Duration::from_micros(dice.roll(3000) as u64)).await;
                let fate = self.trouble(&call, client, &mut dice);
                self.note(client, &call, &fate);
                fate
            }
        };
        match self.script.fault {
            Some(fault) => fault(self, client, call).await.unwrap_or(fate),
            None => fate,
        }
    }

    /// What a network or DynamoDB may do to a call.
    fn trouble(&self, call: &Call, client: usize, dice: &mut Dice) -> Fate {
        if !self.script.has_trouble {
            return Fate::Pass;
        }
        let is_write = !matches!(call.operation.as_str(), "GetItem" | "Query");
        // A fault may put another fate in the place of this one.
        let may_be_late = is_write && self.script.fault.is_none();
        match dice.roll(100) {
            0..6 => {
                let mut record = self.record.lock().unwrap();
                let operation = record.current[&client];
                record.history.operations[operation].is_repeated = true;
                Fate::AnswerLost
            }
            6..9 => Fate::Lost,
            9..12 => Fate::Refused(500, "InternalServerError"),
            12..14 => Fate::Refused(400, "ThrottlingException"),
            14..16 if call.operation == "TransactWriteItems" => Fate::Cancelled,
            14..16 if is_write => Fate::Refused(400, "TransactionConflictException"),
            16..20 if may_be_late => Fate::Late(self.hold_up(call, client)),
            20..22 if may_be_late => Fate::Doubled(self.hold_up(call, client), call.body.clone()),
            _ => Fate::Pass,
        }
    }

    /// Keeps a call of this client on the way.
    pub fn hold_up(&self, call: &Call, client: usize) -> Arc<Late> {
        let mut record = self.record.lock().unwrap();
        let operation = record.current[&client];
        let held_up = &mut record.history.operations[operation];
        (held_up.is_repeated, held_up.may_arrive_late) = (true, true);
        let late = Arc::new(Late::default());
        self.late.lock().unwrap().push(HeldUp { operation, call: call.clone(), late: Arc::clone(&late) });
        late
    }

    /// Notes a call and its fate for the story.
    fn note(&self, client: usize, call: &Call, fate: &Fate) {
        let fate = match fate {
            Fate::Pass => String::new(),
            Fate::Late(_) => ", held up".into(),
            Fate::Doubled(..) => ", twice".into(),
            Fate::Refused(_, code) => format!(", {code}"),
            other => format!(", {other:?}"),
        };
        let line = format!("client {client}: {}{fate}", self.told(call));
        let mut record = self.record.lock().unwrap();
        let moment = record.tick();
        record.history.calls.push((moment, line));
    }

    /// A call in words.
    fn told(&self, call: &Call) -> String {
        let Call { operation, body } = call;
        let members = body["TransactItems"].as_array().into_iter().flatten();
        let members = members.flat_map(|member| member.as_object().into_iter().flatten().map(|(_, member)| member));
        let keys = members.chain([body]).flat_map(|call| [&call["Key"], &call["Item"]]);
        let mut cast = self.cast();
        let mut item = |key: &Value| {
            let sk = key["sk"]["S"].as_str()?;
            let session = sk.strip_prefix("SESSION#").and_then(SessionId::parse);
            Some(session.map_or_else(|| sk.to_lowercase(), |session| format!("session {}", cast.session(session))))
        };
        let items: Vec<_> = keys.filter_map(&mut item).collect();
        format!("{operation} {}", items.join(", ")).trim_end().to_owned()
    }

    /// Lets the requests and their calls go on until all tasks are done.
    async fn direct(&self, tasks: Vec<JoinHandle<()>>, dice: &mut Dice) {
        if self.script.pace == Pace::StepByStep {
            loop {
                let pauses = self.settle(&tasks).await;
                match self.go_on(pauses, dice) {
                    Step::Done => break,
                    Step::Passed => {}
                    Step::Arrival(held_up) => self.arrive(held_up).await,
                    Step::Time(passed) => tokio::time::advance(passed).await,
                }
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        // Half of what is still on the way never arrives.
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for held_up in late.into_iter().filter(|_| dice.roll(2) > 0) {
            self.arrive(held_up).await;
        }
    }

    /// Decides what comes next, and lets requests and calls pass the gate.
    fn go_on(&self, pauses: bool, dice: &mut Dice) -> Step {
        let mut late = self.late.lock().unwrap();
        let mut gate = self.gate();
        if gate.is_empty() && !pauses {
            return Step::Done;
        }
        let choice = dice.roll(gate.len() + late.len() + usize::from(pauses));
        let Some(beyond) = choice.checked_sub(gate.len()) else {
            drop(late);
            gate.sort_by_key(|waiting| (waiting.client, waiting.call.as_ref().map(|call| call.operation.clone())));
            let together = if dice.roll(4) > 0 { 1 } else { 1 + dice.roll(gate.len()) };
            for number in 0..together {
                let next = (choice + number) % gate.len();
                let Waiting { client, call, pass } = gate.remove(next);
                let fate = call.map_or(Fate::Pass, |call| {
                    let fate = self.trouble(&call, client, dice);
                    self.note(client, &call, &fate);
                    fate
                });
                pass.send(fate).unwrap();
            }
            return Step::Passed;
        };
        if beyond < late.len() {
            return Step::Arrival(late.remove(beyond));
        }
        Step::Time(Duration::from_millis(25 + dice.roll(400) as u64))
    }

    /// Lets a call arrive, unless it is the write of a new session that its user has ended
    /// since. That is the one write of the system that such a copy may repeat: a PutItem has no
    /// token that tells a copy, as a transaction has, and no row is left for its condition to
    /// meet. The login was answered after a retry by then, and the first try is seconds late.
    async fn arrive(&self, held_up: HeldUp) {
        let HeldUp { operation, call, late } = held_up;
        let client = self.record.lock().unwrap().history.operations[operation].client;
        let opened = text(&call.body["Item"]["sk"]["S"]).strip_prefix("SESSION#").and_then(SessionId::parse);
        if let (Some(opened), None) = (opened, self.script.fault)
            && self.record.lock().unwrap().history.operations[operation].ended.is_some()
            && busy(self.stage.world.app("refresh").store().session(self.user, opened)).await.unwrap().is_none()
        {
            return;
        }
        self.note(client, &Call { operation: format!("at last, {}", call.operation), ..call }, &Fate::Pass);
        busy(late.arrive()).await;
    }

    /// Waits until every request is done or waits at the gate, and no call or hash is under
    /// way. Returns whether a request pauses before a retry.
    async fn settle(&self, tasks: &[JoinHandle<()>]) -> bool {
        let mut calm = 0;
        loop {
            yield_now().await;
            let (is_idle, pauses) = {
                let gate = self.gate();
                let calls = gate.iter().filter(|waiting| waiting.call.is_some()).count();
                let is_idle = self.stage.wire.in_flight() == calls;
                let clients: BTreeSet<_> = gate.iter().map(|waiting| waiting.client).collect();
                let unfinished = tasks.iter().filter(|task| !task.is_finished()).count();
                (is_idle && self.stage.apps.iter().all(|app| app.hasher().is_idle()), clients.len() < unfinished)
            };
            calm = if is_idle { calm + 1 } else { 0 };
            match calm {
                CALM if !pauses => return false,
                LONG_CALM => return true,
                _ => {}
            }
        }
    }
}
