//! `freshkey import` and `freshkey import-sessions`.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use freshkey::SystemClock;
use freshkey::client::Client;
use freshkey::email::Email;
use freshkey::session::Hash;
use serde_json::{Value, json};

use crate::world::{EMAIL, PASSWORD, Run, World, signed_up, without_mail, world_at};

/// bcrypt of [`PASSWORD`], as PHP writes it, at the lowest cost.
const BCRYPT: &str = "$2y$04$RmZZSTiWNwf6ubdAvgZdFeJV557mhWXEPURW5OfVFGYDfsXJuz6j6";
const UNTIL: (&str, &str) = ("IMPORTED_TOKENS_UNTIL", "2999-01-01:k1");
const SECRET: (&str, &str) = ("JWT_SECRET_KEY", "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ");
const TOKEN: &str = "c0ffee5f0e8b1a3d4c6b7a8990817263544536271809f0e1d2c3b4a5968778695a4b3c2d1e0f";

fn write(world: &World, lines: &str) {
    fs::write(world.directory.path().join("users.jsonl"), lines).unwrap();
}

fn import(world: &World, lines: &str, options: &str) -> Run {
    write(world, lines);
    world.run(&format!("import users.jsonl {options}"))
}

fn summary(imported: u64, there: u64, refused: u64) -> Value {
    json!({ "imported": imported, "there": there, "refused": refused, "dry_run": false })
}

/// The reasons for which lines were refused, by line, and the summary.
fn refused(run: &Run) -> (Vec<(u64, String)>, Value) {
    assert_eq!(run.code, 1, "{run:?}");
    let (summary, refused) = run.objects.split_last().unwrap();
    let one = |object: &Value| (object["line"].as_u64().unwrap(), object["reason"].as_str().unwrap().to_owned());
    (refused.iter().map(one).collect(), summary.clone())
}

/// Lines with so many users.
fn many(users: usize) -> String {
    let line = |n| format!("{{\"email\":\"u{n}@example.com\",\"password_hash\":\"{BCRYPT}\"}}\n");
    (0..users).map(line).collect()
}

async fn log_in(world: &World, email: &str, password: &str) -> Result<freshkey::auth::SignedIn, freshkey::Error> {
    let app = world.system.function("login").unwrap().app();
    app.login(email, password, Client::default(), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_imported_with_everything_and_logs_in_with_the_old_password() {
    let world = world_at(Arc::new(SystemClock)).await;
    let line = json!({
        "email": "Ada@example.com", "password_hash": BCRYPT, "first_name": "Ada", "last_name": null, "phone": "+1",
        "roles": ["ROLE_ADMIN"], "is_active": true, "email_verified": true, "created_at": "2023-04-01T12:00:00+02:00",
        "id": "0b9a5a0e-3f56-4e2c-9a0e-2f7d1f6f2f11",
    });
    assert_eq!(import(&world, &line.to_string(), "").done(), [summary(1, 0, 0)]);
    let signed_in = log_in(&world, "ada@example.com", PASSWORD).await.unwrap();
    let user = signed_in.user;
    assert_eq!(user.id.to_string(), "0b9a5a0e-3f56-4e2c-9a0e-2f7d1f6f2f11");
    assert_eq!((user.email.as_str(), user.email_verified), ("Ada@example.com", Some(true)));
    assert_eq!(
        (user.roles.as_slice(), user.created_at.to_string()),
        (&["ROLE_ADMIN".to_owned()][..], "2023-04-01T10:00:00Z".into())
    );
    assert_eq!((user.profile.first_name.as_deref(), user.profile.phone.as_deref()), (Some("Ada"), Some("+1")));
    assert!(user.imported_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn mi4_a_second_run_changes_nothing() {
    let world = world_at(Arc::new(SystemClock)).await;
    let lines = many(30);
    assert_eq!(import(&world, &lines, "").done(), [summary(30, 0, 0)]);
    let before = world.rows().await.users;
    assert_eq!(import(&world, &lines, "").done(), [summary(0, 30, 0)]);
    assert_eq!(world.rows().await.users, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn mi4_a_run_that_is_killed_loses_nothing_and_is_resumed_to_the_same_end() {
    let world = world_at(Arc::new(SystemClock)).await;
    let lines = format!("{{\"email\":\"nobody\"}}\n{}", many(600));
    write(&world, &lines);
    let progress = world.directory.path().join("users.jsonl.progress");
    let line = || {
        let notes: Option<Value> = fs::read(&progress).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        notes.map_or(0, |notes| notes["line"].as_u64().unwrap())
    };
    let mut process = world.command(&["--json", "import", "users.jsonl"]).stdout(Stdio::null()).spawn().unwrap();
    while line() < 100 {
        assert_eq!(process.try_wait().unwrap(), None, "it ended before it was killed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(line() < 601);

    // It goes on in the same file alone.
    write(&world, &lines.replacen("nobody", "somebody", 1));
    let (error, message) = world.run("import users.jsonl --resume").failed(2);
    assert_eq!(error, "progress");
    assert!(message.contains("another file"), "{message}");

    // The line that was refused before is counted, and the exit code says so.
    write(&world, &lines);
    let (refused, summary_) = refused(&world.run("import users.jsonl --resume"));
    assert_eq!((refused.len(), summary_["refused"].as_u64()), (0, Some(1)));
    assert_eq!(summary_["imported"].as_u64().unwrap() + summary_["there"].as_u64().unwrap(), 600, "{summary_}");
    assert!(!progress.exists());
    // All are there, each once.
    let (_, again) = self::refused(&world.run("import users.jsonl"));
    assert_eq!(again, summary(0, 600, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn mi4_a_run_that_the_table_interrupts_says_where_and_how_to_go_on() {
    let world = world_at(Arc::new(SystemClock)).await;
    write(&world, &many(3));
    let gone = ["--json", "--table", "Table", "--endpoint", "http://127.0.0.1:1", "import", "users.jsonl"];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_freshkey"));
    let output = command.env_clear().current_dir(world.directory.path()).args(gone).args(["--allow-no-password"]);
    let output = output.output().unwrap();
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((output.status.code(), &failure["error"]), (Some(3), &json!("interrupted")));
    let message = failure["message"].as_str().unwrap();
    assert!(message.starts_with("Stopped after line 0. Go on with --resume."), "{message}");
    // What was noted is about the other table.
    assert_eq!(world.run("import users.jsonl --resume").failed(2).0, "progress");
    assert_eq!(world.run("import users.jsonl").done(), [summary(3, 0, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mi5_nothing_that_exists_is_overwritten() {
    let (world, alice) = signed_up().await;
    let line = format!("{{\"email\":\"{EMAIL}\",\"password_hash\":\"{BCRYPT}\",\"roles\":[\"ROLE_ADMIN\"]}}");
    let (lines, summary_) = refused(&import(&world, &line, ""));
    assert_eq!((lines, summary_), (vec![(1, "the address has another account".to_owned())], summary(0, 0, 1)));
    let users = world.rows().await.users;
    assert_eq!((users.len(), users[0].id, users[0].roles.clone()), (1, alice.user.id, vec!["ROLE_USER".to_owned()]));
    // Two addresses of the other system that are one here: the first is imported.
    let lines = ["Bob@example.com", "bob@example.com"]
        .map(|email| format!("{{\"email\":\"{email}\",\"password_hash\":\"{BCRYPT}\"}}"));
    let (lines, _) = refused(&import(&world, &lines.join("\n"), ""));
    assert_eq!(lines, [(2, "the address is in line 1, too".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mi10_lines_with_faults_are_named_and_the_others_are_imported() {
    let world = world_at(Arc::new(SystemClock)).await;
    let good = |n: u32| format!("{{\"email\":\"u{n}@example.com\",\"password_hash\":\"{BCRYPT}\"}}");
    let with = |members: &str| format!("{{\"email\":\"x@example.com\",\"password_hash\":\"{BCRYPT}\",{members}}}");
    let costly = "{\"email\":\"x@example.com\",\"password_hash\":\"$argon2id$v=19$m=1048576,t=2,p=1$c29tZXNhbHQ$YWJjZGVmZ2hpamtsbW5vcA\"}";
    let lines = [
        format!("\u{feff}{}\r", good(1)),
        String::new(),
        "{\"email\": \"x@exam".into(),
        "[1]".into(),
        "  \r".into(),
        good(2),
        "{}".into(),
        "{\"email\": 7}".into(),
        "{\"email\": \"nobody\"}".into(),
        with("\"roles\":\"ROLE_ADMIN\""),
        with("\"is_active\":1"),
        with("\"created_at\":\"yesterday\""),
        with("\"created_at\":\"2999-01-01T00:00:00Z\""),
        with("\"email\":\"y@example.com\""),
        with("\"id\":\"7\""),
        with("\"firstname\":\"Ada\""),
        with("\"avatar\":\"javascript:alert(1)\""),
        with(&format!("\"roles\":[\"{}\"]", "R".repeat(5000))),
        costly.into(),
        format!("{{\"email\":\"{}@example.com\"}}", "x".repeat(70_000)),
        good(3),
    ];
    for options in ["--dry-run", ""] {
        let (faults, summary) = refused(&import(&world, &lines.join("\n"), options));
        let numbers: Vec<_> = faults.iter().map(|(line, _)| *line).collect();
        assert_eq!(numbers, [3, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20], "{faults:?}");
        assert_eq!((&summary["imported"], &summary["refused"]), (&json!(3), &json!(16)));
        let users = world.rows().await.users.len();
        assert_eq!(users, if options.is_empty() { 3 } else { 0 });
    }
    let bytes = [good(4).as_bytes(), b"\n\xff\xfe\n", good(5).as_bytes()].concat();
    fs::write(world.directory.path().join("users.jsonl"), bytes).unwrap();
    let (faults, _) = refused(&world.run("import users.jsonl"));
    assert_eq!(faults, [(2, "it is not UTF-8".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mi3_a_user_without_a_hash_that_is_understood_comes_in_by_a_reset() {
    let lines = [
        "{\"email\":\"none@example.com\"}",
        "{\"email\":\"md5@example.com\",\"password_hash\":\"5f4dcc3b5aa765d61d8327deb882cf99\"}",
    ];
    let world = world_at(Arc::new(SystemClock)).await;
    assert_eq!(import(&world, &lines.join("\n"), "").done(), [summary(2, 0, 0)]);
    for password in ["", "password", "5f4dcc3b5aa765d61d8327deb882cf99"] {
        assert!(log_in(&world, "md5@example.com", password).await.is_err());
    }
    let without_mail = without_mail(&[]).await;
    let (faults, _) = refused(&import(&without_mail, &lines.join("\n"), ""));
    assert_eq!(faults.len(), 2);
    assert_eq!(import(&without_mail, &lines.join("\n"), "--allow-no-password").done(), [summary(2, 0, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mi11_neither_the_report_nor_the_record_has_a_hash_a_token_or_a_full_address() {
    let world = without_mail(&[UNTIL, SECRET]).await;
    let users = [
        format!("{{\"email\":\"canary.one@example.com\",\"password_hash\":\"{BCRYPT}\",\"x\":1}}"),
        format!("{{\"email\":\"canary.two@example.com\",\"password_hash\":\"{BCRYPT}\",\"id\":\"{TOKEN}\"}}"),
        format!("{{\"email\":\"canary.three@example.com\",\"password_hash\":[\"{BCRYPT}\"]}}"),
        format!("{{\"email\":\"canary.four@example.com\",\"password_hash\":\"{BCRYPT}\" \"{TOKEN}\"}}"),
    ];
    let tokens = [
        format!("{{\"email\":\"canary.one@example.com\",\"refresh_token\":\"{TOKEN}\",\"expires_at\":\"{TOKEN}\"}}"),
        format!("{{\"email\":\"canary.one@example.com\",\"refresh_token\":\"{TOKEN}\",\"expires_at\":4102444800}}"),
    ];
    for json in [true, false] {
        for (command, lines) in [("import", &users[..]), ("import-sessions", &tokens[..])] {
            write(&world, &lines.join("\n"));
            let options = if json { &["--json", command, "users.jsonl"][..] } else { &[command, "users.jsonl"] };
            let run = world.run_plainly(options, "");
            assert_eq!(run.code, 1, "{run:?}");
            let record = fs::read_to_string(world.directory.path().join("freshkey-operator.log")).unwrap();
            let text = format!("{}{}{record}", run.output, run.errors);
            for secret in [
                BCRYPT,
                TOKEN,
                "canary.",
                &Hash::of(&[TOKEN.as_bytes()]).as_bytes().map(|b| format!("{b:02x}")).concat(),
            ] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
            assert!(text.contains("c***@example.com"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_imported_by_token_or_by_hash_and_go_on() {
    let world = without_mail(&[UNTIL, SECRET]).await;
    import(&world, &format!("{{\"email\":\"ada@example.com\",\"password_hash\":\"{BCRYPT}\"}}"), "--allow-no-password")
        .done();
    let registered = world.register(EMAIL).await;
    let digits = Hash::of(&[b"another token"]).as_bytes().map(|byte| format!("{byte:02x}")).concat();
    let lines = [
        format!(
            "{{\"email\":\"ada@example.com\",\"refresh_token\":\"{TOKEN}\",\"created_at\":\"2026-11-20T12:00:00Z\",\"expires_at\":\"2100-01-01T00:00:00Z\"}}"
        ),
        format!("{{\"email\":\"ada@example.com\",\"refresh_token_sha256\":\"{digits}\",\"expires_at\":4102444800}}"),
        "{\"email\":\"nobody@example.com\",\"refresh_token\":\"x\",\"expires_at\":4102444800}".into(),
        format!("{{\"email\":\"{EMAIL}\",\"refresh_token\":\"y\",\"expires_at\":4102444800}}"),
        "{\"email\":\"ada@example.com\",\"refresh_token\":\"z\",\"expires_at\":1000000000}".into(),
        "{\"email\":\"ada@example.com\",\"refresh_token\":\"z\",\"refresh_token_sha256\":\"z\",\"expires_at\":1}"
            .into(),
    ];
    drop(registered);
    write(&world, &lines.join("\n"));
    let twice = format!("{}\n{}", lines[0], lines[0]);
    for (options, imported, there) in [("--dry-run", 2, 0), ("", 2, 0), ("", 0, 2)] {
        let (faults, summary) = refused(&world.run(&format!("import-sessions users.jsonl {options}")));
        assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4, 5, 6], "{faults:?}");
        assert_eq!((&summary["imported"], &summary["there"]), (&json!(imported), &json!(there)));
    }
    write(&world, &twice);
    let (faults, _) = refused(&world.run("import-sessions users.jsonl"));
    assert_eq!(faults, [(2, "the token is in line 1, too".to_owned())]);
    write(
        &world,
        &format!(
            "{{\"email\":\"ada@example.com\",\"refresh_token\":\"{}\",\"expires_at\":4102444800}}",
            "t".repeat(4097)
        ),
    );
    assert_eq!(refused(&world.run("import-sessions users.jsonl")).0.len(), 1);
    let app = world.system.function("refresh").unwrap().app();
    for token in [TOKEN, "another token"] {
        let tokens = app.refresh(token, Hash::of(&[b"k", token.as_bytes()]), Client::default()).await.unwrap();
        assert!(tokens.refresh_expires_in > 0);
    }
    let ada = app.store().credential(&Email::parse("ada@example.com").unwrap()).await.unwrap().unwrap().user_id;
    // What is held about her has the tokens, without their names.
    let export = world.run("users export ada@example.com").objects.remove(0);
    let tokens = export["imported_tokens"].as_array().unwrap();
    assert!(tokens.len() == 2 && tokens.iter().all(|token| token["session_id"].is_string()), "{export}");
    assert!(export["imported_at"].is_string(), "{export}");
    let (_, sessions) = app.store().user_and_sessions(ada).await.unwrap();
    assert_eq!(sessions.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_tokens_must_be_on_and_the_file_must_be_there() {
    let other_key = without_mail(&[SECRET, ("IMPORTED_TOKENS_UNTIL", "2999-01-01:k7")]).await;
    assert_eq!(other_key.run("import-sessions users.jsonl").failed(2).0, "no_key");
    let world = without_mail(&[SECRET]).await;
    let (error, message) = world.run("import-sessions users.jsonl").failed(2);
    assert_eq!(error, "imported_tokens_off");
    assert!(message.contains("ImportedTokensUntil"), "{message}");
    assert_eq!(world.run("import users.jsonl").failed(2).0, "file");
}
