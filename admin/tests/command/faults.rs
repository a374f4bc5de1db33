//! What the command says when it cannot do something, and its exit code.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::aws::aws;
use crate::world::{EMAIL, PASSWORD, signed_up};

/// A command of each kind about a user.
const ABOUT_USER: [&str; 11] = [
    "users show",
    "users delete",
    "users disable",
    "users enable",
    "users verify",
    "users roles --add A",
    "users rename x@example.com",
    "users reset-link",
    "users export",
    "sessions list",
    "sessions revoke",
];

#[tokio::test(flavor = "multi_thread")]
async fn op2_an_unknown_user_is_exit_code_1() {
    let (world, _) = signed_up().await;
    for command in ABOUT_USER {
        let (group, rest) = command.split_once(' ').unwrap();
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        for unknown in ["nobody@example.com", "8b9d3a52-93f4-4c6a-9a0e-0b8fd2b6a7f1"] {
            let failed = world.run(&format!("{group} {name} {unknown} {rest}")).failed(1);
            assert_eq!(failed, ("not_found".into(), "There is no such user.".into()), "{command}");
        }
    }
    assert!(!world.directory.path().join("freshkey-operator.log").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_exit_code_1_and_changes_nothing() {
    let (world, alice) = signed_up().await;
    world.register("bob@example.com").await;
    let refused = |command: &str| world.run(command).failed(1).0;
    assert_eq!(refused("users create alice@example.com"), "email_taken");
    assert_eq!(refused("users create alice"), "email_invalid");
    assert_eq!(refused("users rename alice@example.com bob@example.com"), "email_taken");
    assert_eq!(refused(&format!("users roles {EMAIL} --add {}", "x".repeat(5000))), "roles_too_long");
    assert_eq!(world.app().find_user(EMAIL).await.unwrap(), alice.user);
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_wrong_usage_is_exit_code_2() {
    let (mut world, _) = signed_up().await;
    // A table in AWS has a stack, whose log group has the record of acts.
    world.target[3] = "https://dynamodb.eu-central-1.amazonaws.com".into();
    assert_eq!(world.run("users list").code, 2);
    world.target[3] = world.system.table_endpoint().into();
    for wrong in ["users", "users show", "users roles alice@example.com", "sessions revoke alice@example.com x"] {
        assert_eq!(world.run(wrong).code, 2, "{wrong}");
    }
    world.variables.insert("LIMIT_GUESSES".into(), "many".into());
    let (error, message) = world.run("users list").failed(2);
    assert_eq!(error, "configuration");
    assert!(message.contains("LIMIT_GUESSES must be a whole number from 1 to 1000000"), "{message}");
    world.variables.remove("LIMIT_GUESSES");
    world.variables.remove("RESET_URL");
    assert_eq!(world.run("users reset-link alice@example.com").failed(2).0, "no_reset_url");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_is_not_done_where_nobody_can_answer() {
    let (world, _) = signed_up().await;
    for asks in ["users delete EMAIL", "users rename EMAIL x@example.com", "users reset-link EMAIL", "mail retry"] {
        let asks = asks.replace("EMAIL", EMAIL);
        let run = world.run_plainly(&asks.split(' ').chain(["--json"]).collect::<Vec<_>>(), "y\n");
        assert_eq!(run.failed(1).0, "not_confirmed", "{asks}");
    }
    assert!(!world.directory.path().join("freshkey-operator.log").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mail_a_password_is_read_from_standard_input() {
    let (mut world, _) = signed_up().await;
    world.variables.remove("MAIL_FROM");
    let create = "users create bob@example.com";
    assert_eq!(world.run_with(create, "short\n").failed(1).0, "password_too_short");
    world.run_with(create, &format!("{PASSWORD}\n")).done();
    let app = world.system.function("login").unwrap().app();
    app.login("bob@example.com", PASSWORD, Default::default(), None).await.unwrap();
    assert_eq!(world.run("users reset-link bob@example.com --send").failed(1).0, "mail_off");
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_a_table_that_does_not_answer_is_exit_code_3() {
    let (mut world, _) = signed_up().await;
    world.target[3] = "http://127.0.0.1:1".into();
    let (error, message) = world.run("users list").failed(3);
    assert_eq!((error.as_str(), message.as_str()), ("unavailable", "DynamoDB Scan: not sent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_without_rights_the_exit_code_is_3_and_the_refused_action_is_named() {
    let (mut world, _) = signed_up().await;
    let table = world.target[3].clone();
    for (command, action) in [
        ("users list", "Scan"),
        ("users show alice@example.com", "GetItem"),
        ("sessions list", "Scan"),
        ("limits show 192.0.2.1", "GetItem"),
        ("mail list", "Query"),
        ("users create bob@example.com", "TransactWriteItems"),
        ("users enable alice@example.com", "UpdateItem"),
    ] {
        world.target[3] = denying(&table, action).await;
        let (error, message) = world.run(command).failed(3);
        let expected = format!("DynamoDB {action}: AccessDeniedException");
        assert_eq!((error.as_str(), message), ("unavailable", expected), "{command}");
    }
    let aws = aws(&mut world).await;
    aws.lock().unwrap().denied = ["DescribeStacks"].into();
    let (_, message) = world.run("users list").failed(3);
    assert_eq!(message, "cloudformation:DescribeStacks: AccessDenied");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_that_leaves_rows_is_done_and_says_so() {
    let (mut world, alice) = signed_up().await;
    world.target[3] = denying(world.system.table_endpoint(), "DeleteItem").await;
    let run = world.run("users delete alice@example.com");
    assert_eq!((run.code, &run.objects[0]["deleted"]), (0, &true.into()), "{run:?}");
    let warning: Value = serde_json::from_str(&run.errors).unwrap();
    assert_eq!(warning["user.id"], alice.user.id.to_string());
    assert_eq!(warning["error"], "DynamoDB DeleteItem: AccessDeniedException");
    assert_eq!(world.rows().await.sessions.len(), 1);
}

#[cfg(target_os = "linux")] // only Linux has a file that is always full
#[tokio::test(flavor = "multi_thread")]
async fn output_that_cannot_be_written_is_exit_code_3_and_a_reader_who_leaves_is_none() {
    let (world, _) = signed_up().await;
    for format in [&["users", "list"][..], &["users", "list", "--json"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let run = world.command(format).stdout(full).output().unwrap();
        assert_eq!(run.status.code(), Some(3), "{run:?}");
        assert!(String::from_utf8(run.stderr).unwrap().contains("The output cannot be written"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = world.command(format).stdout(writer).output().unwrap();
        assert_eq!(run.status.code(), Some(0), "{run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_read_are_left_out_and_counted() {
    let (world, alice) = signed_up().await;
    world.register("bob@example.com").await;
    let update = json!({
        "TableName": world.system.table_name(),
        "Key": { "pk": { "S": format!("USER#{}", alice.user.id) }, "sk": { "S": "PROFILE" } },
        "UpdateExpression": "SET epoch = :text",
        "ExpressionAttributeValues": { ":text": { "S": "x" } },
    });
    let call = reqwest::Client::new().post(world.system.table_endpoint()).body(update.to_string());
    let call = call.header("x-amz-target", "DynamoDB_20120810.UpdateItem");
    let call = call.header("content-type", "application/x-amz-json-1.0");
    let signature =
        "AWS4-HMAC-SHA256 Credential=x/20261126/local/dynamodb/aws4_request, SignedHeaders=host, Signature=x";
    let call = call.header("authorization", signature).header("x-amz-date", "20261126T000000Z");
    call.send().await.unwrap().error_for_status().unwrap();
    let run = world.run("users list");
    assert_eq!((run.code, run.objects.len()), (0, 1), "{run:?}");
    let warning: Value = serde_json::from_str(&run.errors).unwrap();
    assert_eq!(warning["message"], "1 rows of the table cannot be read, and are left out.");
}

/// Starts a DynamoDB that passes calls on to the one at `table`, but allows no `action`.
async fn denying(table: &str, action: &'static str) -> String {
    const DENIED: &str = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}"#;
    let (client, table) = (reqwest::Client::new(), table.to_owned());
    let answer = async move |headers: HeaderMap, body: Bytes| {
        if headers["x-amz-target"].to_str().unwrap().ends_with(&format!(".{action}")) {
            return (StatusCode::BAD_REQUEST, Bytes::from(DENIED));
        }
        let answer = client.post(&table).headers(headers).body(body).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, server).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_says_where_the_table_is_and_which_settings_apply() {
    let (mut world, alice) = signed_up().await;
    let aws = aws(&mut world).await;
    world.variables.retain(|name, _| name.starts_with("AWS_"));
    let shown = world.run("users show alice@example.com").objects;
    assert_eq!(shown[0]["user_id"], alice.user.id.to_string());
    let created = world.run("users create bob@example.com").done();
    assert_eq!(created[0]["roles"][0], "ROLE_OF_THE_STACK");
    let link = world.run("users reset-link bob@example.com").done()[0]["link"].to_string();
    assert!(link.contains("https://stack.example.com/reset#token="), "{link}");
    let stack = world.target.clone();
    world.target.extend(["--table", "another"].map(str::to_owned));
    let (_, message) = world.run("users list").failed(3);
    assert_eq!(message, "DynamoDB Scan: ResourceNotFoundException");
    world.target = stack;
    world.target[1] = "arn:aws:cloudformation:eu-central-1:111122223333:stack/auth/x".into();
    world.run("users verify alice@example.com").done();
    assert_eq!(aws.lock().unwrap().events.last().unwrap().0, "/freshkey/auth/operator");
    world.target[1] = "other".into();
    assert_eq!(world.run("users list").failed(1).0, "no_stack");
}
