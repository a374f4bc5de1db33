//! `freshkey keys`, on a stack whose functions run here and read its secret.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use freshkey::auth::{App, Tokens};
use freshkey::client::Client;
use freshkey::session::Hash;
use freshkey::{Clock, Error, ManualClock, SystemClock};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::aws::{SECRET_ARN, Shared, aws};
use crate::wire::Wire;
use crate::world::{EMAIL, PASSWORD, Run, World, world_over};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// The functions that check access tokens.
const CHECK: [&str; 3] = ["account", "email", "authorizer"];
const PASSPHRASE: &str = "a-passphrase-for-tests-only";

fn path(key: &str) -> String {
    format!("{}/../shared/src/token/testdata/{key}.pem", env!("CARGO_MANIFEST_DIR"))
}

fn kid(token: &impl ExposeSecret<str>) -> String {
    let header = token.expose_secret().split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// A stack, and its functions.
struct Deployed {
    world: World,
    aws: Shared,
    wire: Wire,
    clock: Arc<ManualClock>,
}

async fn deployed(algorithm: &'static str) -> Deployed {
    let (wire, clock) = (Wire::new(), Arc::new(ManualClock::at(SystemClock.now())));
    wire.set_secret(serde_json::from_str(crate::vault::GENERATED).unwrap());
    let keys = [("JWT_SECRET_ARN", SECRET_ARN), ("JWT_ALGORITHM", algorithm)];
    let mut world = world_over(clock.clone(), &keys, Some(wire.client())).await;
    let aws = aws(&mut world).await;
    aws.lock().unwrap().algorithm = algorithm;
    Deployed { world, aws, wire, clock }
}

impl Deployed {
    /// Runs `freshkey keys` without `--yes`.
    fn keys(&self, arguments: &str) -> Run {
        self.run(&["--json"], arguments, "")
    }

    fn keys_with_yes(&self, arguments: &str) -> Run {
        self.run(&["--json", "--yes"], arguments, "")
    }

    fn run(&self, options: &[&str], arguments: &str, input: &str) -> Run {
        let arguments = options.iter().copied().chain(["keys"]).chain(arguments.split_whitespace());
        let run = self.world.run_plainly(&arguments.collect::<Vec<_>>(), input);
        self.sync();
        let aws = self.aws.lock().unwrap();
        let said = format!("{}{}{:?}{:?}", run.output, run.errors, aws.events, aws.vault.tags);
        for (text, _) in aws.vault.versions.values() {
            let members: Value = serde_json::from_str(text).unwrap();
            for (name, value) in members.as_object().unwrap() {
                let value = value.as_str().unwrap();
                let lines = value.lines().filter(|line| line.len() > 20 && !line.starts_with('-'));
                assert!(!lines.into_iter().any(|line| said.contains(line)), "{name} is shown: {said}");
            }
        }
        assert!(!said.contains(PASSPHRASE), "{said}");
        run
    }

    /// Lets the functions read the secret as it is.
    fn sync(&self) {
        self.wire.set_secret(self.aws.lock().unwrap().vault.current());
    }

    fn edit(&self, secret: Value) {
        self.aws.lock().unwrap().vault.edit(&secret);
        self.sync();
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.aws.lock().unwrap().vault.pass(time);
    }

    fn app(&self, function: &str) -> &App {
        self.world.system.function(function).unwrap().app()
    }

    /// Refreshes a session. Every function then admits its access token.
    async fn refresh(&self, tokens: Tokens) -> Tokens {
        let token = tokens.refresh_token.expose_secret();
        let key = Hash::of(&[token.as_bytes()]);
        let tokens = self.app("refresh").refresh(token, key, Client::default()).await.unwrap();
        for function in CHECK {
            self.admit(function, &tokens).await.unwrap_or_else(|error| panic!("{function}: {error:?}"));
        }
        tokens
    }

    async fn admit(&self, function: &str, tokens: &Tokens) -> Result<(), Error> {
        let token = tokens.access.token.expose_secret();
        self.app(function).admit(Some(token), None, Client::default()).await.map(drop)
    }

    async fn login(&self) -> Result<Tokens, Error> {
        Ok(self.app("login").login(EMAIL, PASSWORD, Client::default(), None).await?.tokens)
    }

    /// The name of each key, and what it signs.
    fn signers(&self) -> Vec<String> {
        let listed = self.keys("list").done();
        listed
            .iter()
            .map(|key| format!("{} {} {}", key["name"], key["algorithm"], key["signs"]).replace('"', ""))
            .collect()
    }

    fn labels(&self) -> Vec<String> {
        self.aws.lock().unwrap().vault.labels().into_iter().map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn op5_jw15_a_rotation_in_the_middle_of_sessions_signs_nobody_out() {
    let stack = deployed("HS256").await;
    let mut alice = stack.world.register(EMAIL).await.tokens;
    // The copies of the functions are of different ages.
    for function in CHECK {
        stack.pass(5 * MINUTE + MINUTE);
        stack.admit(function, &alice).await.unwrap();
    }

    let added = stack.keys("add HS256").done();
    let row = |name: &str, signs: &[&str], added_at: Option<&str>, spent_at: Option<&str>| {
        json!({
            "name": name, "algorithm": "HS256", "signs": signs, "added_at": added_at, "ready_at": "TIME",
            "spent_at": spent_at,
        })
    };
    assert_eq!(added, [row("k2", &[], Some("TIME"), None)]);
    for _ in 0..4 {
        alice = stack.refresh(alice).await;
        stack.pass(2 * MINUTE);
        assert_eq!(stack.keys("use k2").failed(1).0, "too_early");
    }
    assert_eq!((kid(&alice.access.token), kid(&alice.refresh_token)), ("k1".into(), "k1".into()));
    stack.pass(2 * MINUTE);
    let bob = stack.login().await.unwrap();
    assert_eq!(stack.keys("use k2").done(), [row("k2", &["access", "refresh"], Some("TIME"), None)]);
    for _ in 0..7 {
        alice = stack.refresh(alice).await;
        stack.admit("account", &bob).await.unwrap();
        stack.pass(MINUTE);
    }
    assert_eq!((kid(&alice.access.token), kid(&alice.refresh_token)), ("k2".into(), "k2".into()));

    assert_eq!(stack.keys("retire k1").failed(1).0, "too_early");
    let listed = [row("k1", &[], None, Some("TIME")), row("k2", &["access", "refresh"], Some("TIME"), None)];
    assert_eq!(stack.keys("list").done(), listed);
    for _ in 0..29 {
        stack.pass(DAY);
        alice = stack.refresh(alice).await;
    }
    stack.pass(23 * HOUR);
    assert_eq!(stack.keys("retire k1").failed(1).0, "too_early");
    let bob = stack.refresh(bob).await;
    stack.pass(HOUR);
    assert_eq!(stack.keys("retire k1").done(), [json!({ "name": "k1", "retired": true })]);
    let (mut alice, mut bob) = (alice, bob);
    for _ in 0..7 {
        stack.pass(MINUTE);
        (alice, bob) = (stack.refresh(alice).await, stack.refresh(bob).await);
    }
    assert_eq!(stack.signers(), ["k2 HS256 [access,refresh]"]);
    assert_eq!(stack.labels(), ["AWSCURRENT", "AWSPREVIOUS"]);
    let aws = stack.aws.lock().unwrap();
    assert_eq!(aws.vault.tags.keys().collect::<Vec<_>>(), ["freshkey:key:k2"]);
    let acts: Vec<_> = aws.events.iter().map(|(_, record)| record["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["keys add HS256 k2", "keys use k2 for access and refresh", "keys retire k1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn op5_of_two_operators_at_once_one_wins_and_nothing_is_lost() {
    let stack = deployed("HS256").await;
    for command in ["add HS256", "add ES256", "use k2", "retire k1"] {
        let gate = Arc::new(Barrier::new(2));
        stack.aws.lock().unwrap().vault.gate = Some(gate);
        // Both read the secret before either writes it.
        let arguments: Vec<_> = ["--json", "--yes", "keys"].into_iter().chain(command.split(' ')).collect();
        let both = std::thread::scope(|scope| {
            let running = [(); 2].map(|()| scope.spawn(|| stack.world.run_plainly(&arguments, "")));
            running.map(|thread| thread.join().unwrap())
        });
        stack.aws.lock().unwrap().vault.gate = None;
        let mut codes: Vec<_> = both.iter().map(|run| run.code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [0, 1], "{command}: {both:?}");
        let loser = both.into_iter().find(|run| run.code == 1).unwrap();
        assert_eq!(loser.failed(1).0, "secret_changed", "{command}");
        // No version is left with a label but the two of every secret.
        assert_eq!(stack.labels(), ["AWSCURRENT", "AWSPREVIOUS"], "{command}");
    }
    assert_eq!(stack.signers(), ["k2 HS256 [access,refresh]", "k3 ES256 []"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn op5_a_key_in_use_is_not_retired() {
    let stack = deployed("HS256").await;
    stack.keys("add HS256").done();
    stack.keys_with_yes("use k2 --for refresh").done();
    for (key, tokens) in [("k1", "access"), ("k2", "refresh")] {
        for run in [stack.keys(&format!("retire {key}")), stack.keys_with_yes(&format!("retire {key}"))] {
            let (error, message) = run.failed(1);
            assert_eq!(error, "key_in_use");
            assert!(message.starts_with(&format!("{key} signs {tokens} tokens.")), "{message}");
        }
    }
    assert_eq!(stack.signers(), ["k1 HS256 [access]", "k2 HS256 [refresh]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn op5_a_key_is_retired_when_the_last_token_that_it_signed_has_expired() {
    // What the key signed, and how long such a token is good.
    for (tokens, lifetime) in [("access", HOUR), ("refresh", 30 * DAY), ("both", 30 * DAY)] {
        let stack = deployed("HS256").await;
        stack.keys("add HS256").done();
        stack.keys_with_yes(&format!("use k2 --for {tokens}")).done();
        stack.pass(DAY);
        stack.keys("add HS256").done();
        stack.keys_with_yes("use k3").done();
        stack.pass(lifetime + 4 * MINUTE);
        let early = stack.keys("retire k2").failed(1);
        assert_eq!(early.0, "too_early", "{tokens}");
        stack.pass(MINUTE);
        stack.keys("retire k2").done();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_has_never_signed_is_retired_at_once_and_its_name_is_not_used_again() {
    let stack = deployed("HS256").await;
    for name in ["k2", "k3"] {
        assert_eq!(stack.keys("add EdDSA").done()[0]["name"], name);
        stack.keys(&format!("retire {name}")).done();
        assert_eq!(stack.signers(), ["k1 HS256 [access,refresh]"]);
        assert_eq!(stack.aws.lock().unwrap().vault.tags.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_of_a_key_is_bounded_by_the_last_change_of_the_secret() {
    let stack = deployed("HS256").await;
    let mut secret = stack.aws.lock().unwrap().vault.current();
    // The key is added by hand, and later begins and stops to sign by hand.
    secret["k2"] = "Zq8LmW4tYc0RbXnV5sKe2HgJd7UfPa1o".into();
    stack.edit(secret.clone());
    stack.pass(9 * MINUTE);
    assert_eq!(stack.keys("use k2").failed(1).0, "too_early");
    stack.pass(MINUTE);
    stack.keys("use k2").done();
    secret["refresh"] = "k1".into();
    stack.edit(secret);
    stack.pass(30 * DAY + 4 * MINUTE);
    assert_eq!(stack.keys("retire k2").failed(1).0, "too_early");
    stack.pass(MINUTE);
    stack.keys("retire k2").done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_stack_with_private_keys_comes_to_life_with_its_first_key() {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let stack = deployed(algorithm).await;
        let register = stack.app("register").register(EMAIL, PASSWORD, Default::default(), Client::default()).await;
        assert!(matches!(register, Err(Error::Unavailable { .. })), "{register:?}");
        assert_eq!(stack.keys(&format!("add {algorithm}")).done()[0]["name"], "k2");
        stack.keys("use k2").done();
        assert_eq!(stack.signers(), ["k1 HS256 [refresh]", &format!("k2 {algorithm} [access]")]);
        stack.pass(Duration::from_secs(5));
        let alice = stack.world.register(EMAIL).await.tokens;
        let alice = stack.refresh(alice).await;
        assert_eq!((kid(&alice.access.token), kid(&alice.refresh_token)), ("k2".into(), "k1".into()));
        assert_eq!(stack.app("keys").public_keys().await.unwrap().keys.len(), 1);
        // From now on, a key must be known before it signs.
        stack.keys(&format!("add {algorithm}")).done();
        assert_eq!(stack.keys("use k3").failed(1).0, "too_early");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_signs_what_its_kind_can_sign() {
    let stack = deployed("RS256").await;
    stack.keys("add RS256").done();
    stack.keys("use k2").done();
    stack.keys("add HS256").done();
    // Beside a private key that signs access tokens, a random secret signs refresh tokens.
    assert_eq!(stack.keys_with_yes("use k3").done()[0]["signs"], json!(["refresh"]));
    for tokens in ["refresh", "both"] {
        assert_eq!(stack.keys_with_yes(&format!("use k2 --for {tokens}")).failed(1).0, "key_refused");
    }
    // Functions would not use the secret.
    let (error, message) = stack.keys("use k3 --for access").failed(1);
    assert_eq!(error, "another_algorithm");
    assert!(message.contains("k3 is for HS256, and the stack's JwtAlgorithm is RS256"), "{message}");
    assert_eq!(stack.signers(), ["k1 HS256 []", "k2 RS256 [access]", "k3 HS256 [refresh]"]);
    // A move to another algorithm begins like this.
    stack.keys_with_yes("use k3 --for access").done();
    assert_eq!(stack.signers()[2], "k3 HS256 [access,refresh]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_signs_already_is_left_as_it_is() {
    let stack = deployed("HS256").await;
    assert_eq!(stack.keys("use k1").done()[0]["signs"], json!(["access", "refresh"]));
    let aws = stack.aws.lock().unwrap();
    assert_eq!((aws.vault.versions.len(), aws.events.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_key_is_added_from_a_file() {
    let stack = deployed("RS256").await;
    let add = |algorithm: &str, key: &str, more: &str, input: &str| {
        stack.run(&["--json"], &format!("add {algorithm} --pem {} {more}", path(key)), input)
    };
    assert_eq!(add("RS256", "rsa-2048", "", "").done()[0]["algorithm"], "RS256");
    assert_eq!(add("RS256", "rsa-2048-des3-sha256", "", "").failed(1).0, "key_refused");
    let wrong = add("RS256", "rsa-2048-des3-sha256", "--passphrase-stdin", "wrong\n").failed(1);
    assert!(wrong.1.contains("its passphrase is missing or wrong"), "{}", wrong.1);
    add("RS256", "rsa-2048-des3-sha256", "--passphrase-stdin", &format!("{PASSPHRASE}\n")).done();
    assert_eq!(add("ES256", "p256", "", "").done()[0]["algorithm"], "ES256");
    for (algorithm, key) in [("RS256", "p256"), ("HS256", "rsa-2048"), ("RS256", "rsa-2048-public")] {
        let (error, message) = add(algorithm, key, "", "").failed(1);
        assert_eq!(error, "key_refused");
        assert!(message.contains(&format!("not a private key in PEM for {algorithm}")), "{message}");
    }
    assert_eq!(add("RS256", "no-such-file", "", "").failed(2).0, "no_file");
    assert_eq!(stack.signers(), ["k1 HS256 [access,refresh]", "k2 RS256 []", "k3 RS256 []", "k4 ES256 []"]);
    // The passphrase goes with its key.
    stack.keys("retire k3").done();
    let current = stack.aws.lock().unwrap().vault.current();
    assert_eq!(current.as_object().unwrap().keys().collect::<Vec<_>>(), ["signing", "refresh", "k1", "k2", "k4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_functions_cannot_use_is_left_for_its_owner_to_mend() {
    let stack = deployed("HS256").await;
    for secret in [json!({ "signing": "k1" }), json!({ "signing": "k1", "refresh": "k1", "k1": "your-256-bit-secret" })]
    {
        stack.edit(secret);
        for command in ["list", "add HS256", "use k1", "retire k1"] {
            let (error, message) = stack.keys(command).failed(1);
            assert_eq!(error, "secret_unusable", "{command}");
            assert!(!message.contains("256-bit"), "{message}");
        }
    }
    assert!(stack.aws.lock().unwrap().events.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_keys_without_rights_exit_code_3_and_the_refused_action() {
    let stack = deployed("HS256").await;
    stack.keys("add HS256").done();
    for (command, denied) in [
        ("list", "GetSecretValue"),
        ("list", "DescribeSecret"),
        ("add HS256", "TagResource"),
        ("add HS256", "PutSecretValue"),
        ("add HS256", "UpdateSecretVersionStage"),
        ("use k2", "TagResource"),
        ("use k2", "PutSecretValue"),
    ] {
        stack.aws.lock().unwrap().denied = [denied].into();
        let (error, message) = stack.keys_with_yes(command).failed(3);
        let expected = format!("secretsmanager:{denied}: AccessDeniedException");
        assert_eq!((error.as_str(), message), ("unavailable", expected), "{command}");
        stack.aws.lock().unwrap().denied.clear();
        assert_eq!(stack.signers(), ["k1 HS256 [access,refresh]", "k2 HS256 []"], "{command}");
    }
    // The tag of a key that is gone does no harm, and goes with the next change.
    stack.aws.lock().unwrap().denied = ["UntagResource"].into();
    stack.keys_with_yes("retire k2").done();
    stack.aws.lock().unwrap().denied.clear();
    let added = stack.keys("add HS256").done();
    let tags: Vec<_> = stack.aws.lock().unwrap().vault.tags.keys().cloned().collect();
    let name = added[0]["name"].as_str().unwrap();
    assert_eq!(tags, ["freshkey:key:k1".to_owned(), format!("freshkey:key:{name}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_op3_keys_that_are_unknown_or_cannot_be_recorded_are_left_as_they_are() {
    let stack = deployed("HS256").await;
    for command in ["use k9", "retire k9", "use signing", "retire refresh"] {
        assert_eq!(stack.keys_with_yes(command).failed(1).0, "no_key", "{command}");
    }
    for wrong in ["add", "add HS512", "add none", "use", "use k1 --for all", "add RS256 --passphrase-stdin"] {
        assert_eq!(stack.keys(wrong).code, 2, "{wrong}");
    }
    stack.keys("add HS256").done();
    stack.aws.lock().unwrap().denied = ["PutLogEvents"].into();
    for command in ["add HS256", "use k2", "retire k2"] {
        assert_eq!(stack.keys_with_yes(command).failed(3).0, "not_recorded", "{command}");
    }
    assert_eq!(stack.signers(), ["k1 HS256 [access,refresh]", "k2 HS256 []"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_the_keys_of_a_table_without_a_stack_are_wrong_usage() {
    let (world, _) = crate::world::signed_up().await;
    for command in ["keys list", "keys add HS256", "keys use k1", "keys retire k1"] {
        let (error, message) = world.run(command).failed(2);
        assert_eq!(error, "needs_stack", "{command}");
        assert!(message.contains("JWT_SECRET_KEY"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_after_the_change_is_a_success() {
    let stack = deployed("HS256").await;
    stack.aws.lock().unwrap().vault.loses_answer = true;
    assert_eq!(stack.keys("add HS256").done()[0]["name"], "k2");
    assert_eq!(stack.signers(), ["k1 HS256 [access,refresh]", "k2 HS256 []"]);
    assert_eq!(stack.labels(), ["AWSCURRENT", "AWSPREVIOUS"]);
}
