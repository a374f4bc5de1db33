//! `freshkey doctor` against a stack in which something is wrong.

use freshkey::entropy;
use serde_json::{Value, json};

use crate::deployed::{SECRET, Shared, TOPIC, deployed, dynamodb};
use crate::world::{Run, World, signed_up};

const CHECKS: [&str; 15] = [
    "clock",
    "configuration",
    "origins",
    "table-keys",
    "table-ttl",
    "table-backups",
    "table-stream",
    "secret",
    "ring",
    "rights",
    "issuer",
    "published-keys",
    "alarms",
    "alarm-topics",
    "mail",
];

/// The checks of a run, each with what it says.
fn checks(run: &Run) -> Vec<&str> {
    run.objects.iter().map(|finding| finding["check"].as_str().unwrap()).collect()
}

#[track_caller]
fn check_all_well(run: Run) {
    for finding in &run.objects {
        assert_eq!(finding["ok"], true, "{finding}");
        let members: Vec<_> = finding.as_object().unwrap().keys().collect();
        assert_eq!(members, ["check", "ok", "problem", "mend"]);
    }
    assert_eq!(checks(&run), CHECKS);
    assert_eq!(run.code, 0, "{run:?}");
}

/// Checks that one thing is wrong, and that everything else was checked. Returns the
/// problem and its mend.
#[track_caller]
fn found(run: &Run, check: &str) -> (String, String) {
    let wrong: Vec<&Value> = run.objects.iter().filter(|finding| finding["ok"] == false).collect();
    assert!(wrong.len() == 1 && wrong[0]["check"] == check, "{check}: {wrong:?} {}", run.errors);
    assert_eq!(run.code, 1, "{run:?}");
    let text = |name: &str| wrong[0][name].as_str().unwrap().to_owned();
    (text("problem"), text("mend"))
}

#[tokio::test(flavor = "multi_thread")]
async fn op1_a_stack_with_nothing_wrong_is_well() {
    let (world, _) = deployed().await;
    check_all_well(world.run("doctor"));
    let plain = world.run_plainly(&["doctor"], "");
    let expected: Vec<_> = CHECKS.iter().map(|check| format!("{check}: ok")).collect();
    assert_eq!(plain.output.lines().collect::<Vec<_>>(), expected);
}

/// Plants a fault, checks what `doctor` says, mends it and checks that all is well.
async fn planted(
    (world, stack): &(World, Shared),
    (check, problem, mend): (&str, &str, &str),
    plant: impl FnOnce(&Shared),
    heal: impl FnOnce(&Shared),
) {
    plant(stack);
    let said = found(&world.run("doctor"), check);
    assert!(said.0.contains(problem) && said.1.contains(mend), "{said:?}");
    heal(stack);
    check_all_well(world.run("doctor"));
}

#[tokio::test(flavor = "multi_thread")]
async fn op1_faults_of_the_table_are_found_and_their_mends_work() {
    let (mut world, stack) = deployed().await;
    let name = stack.get().table.0.clone();
    let ttl = |enabled: bool| json!({ "TableName": name, "TimeToLiveSpecification": { "AttributeName": "expires_at", "Enabled": enabled } });
    dynamodb(&stack, "UpdateTimeToLive", &ttl(false)).await;
    let (problem, mend) = found(&world.run("doctor"), "table-ttl");
    assert!(problem.contains("TTL is off"), "{problem}");
    let command = format!("aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification ");
    assert!(mend.contains(&format!("{command}Enabled=true,AttributeName=expires_at")), "{mend}");
    dynamodb(&stack, "UpdateTimeToLive", &ttl(true)).await;
    check_all_well(world.run("doctor"));

    stack.get().backups = false;
    let (_, mend) = found(&world.run("doctor"), "table-backups");
    assert!(mend.contains("PointInTimeRecoveryEnabled=true") && mend.contains(&name), "{mend}");
    stack.get().backups = true;

    let stream = |enabled: bool, view: Option<&str>| json!({ "TableName": name, "StreamSpecification": { "StreamEnabled": enabled, "StreamViewType": view } });
    dynamodb(&stack, "UpdateTable", &stream(false, None)).await;
    let (_, mend) = found(&world.run("doctor"), "table-stream");
    assert!(mend.contains("StreamEnabled=true,StreamViewType=KEYS_ONLY"), "{mend}");
    dynamodb(&stack, "UpdateTable", &stream(true, Some("NEW_IMAGE"))).await;
    assert!(found(&world.run("doctor"), "table-stream").0.contains("NEW_IMAGE"));
    dynamodb(&stack, "UpdateTable", &stream(false, None)).await;
    dynamodb(&stack, "UpdateTable", &stream(true, Some("KEYS_ONLY"))).await;
    check_all_well(world.run("doctor"));

    // Another table, with other keys.
    let other = json!({
        "TableName": "Other",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "N" }],
        "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
        "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "KEYS_ONLY" },
    });
    dynamodb(&stack, "CreateTable", &other).await;
    let ttl =
        json!({ "TableName": "Other", "TimeToLiveSpecification": { "AttributeName": "expires_at", "Enabled": true } });
    dynamodb(&stack, "UpdateTimeToLive", &ttl).await;
    let stack_alone = world.target.clone();
    world.target.extend(["--table", "Other"].map(str::to_owned));
    let (problem, mend) = found(&world.run("doctor"), "table-keys");
    assert!(problem.contains("id HASH N") && problem.contains("pk HASH S, sk RANGE S"), "{problem}");
    assert!(mend.contains("aws dynamodb create-table") && mend.contains("AttributeName=sk,KeyType=RANGE"), "{mend}");
    *world.target.last_mut().unwrap() = "Missing".into();
    assert!(found(&world.run("doctor"), "table-keys").0.contains("There is no table Missing"));
    world.target = stack_alone;
    check_all_well(world.run("doctor"));
}

#[tokio::test(flavor = "multi_thread")]
async fn op1_faults_of_the_secret_are_found_and_their_mends_work() {
    let world = deployed().await;
    let good = world.1.get().secret.clone();
    let secret = |text: String| move |stack: &Shared| stack.get().secret = text;
    let put = format!("aws secretsmanager put-secret-value --secret-id {SECRET}");
    let key: String = entropy::bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
    let ring = |signing: &str, key: &str| json!({ "signing": signing, "refresh": "k1", "k1": key }).to_string();
    let weak = "changeme-changeme-changeme-changeme";
    for (text, (check, problem, mend)) in [
        ("not JSON".to_owned(), ("secret", "flat JSON object", put.as_str())),
        (json!({ "signing": 1 }).to_string(), ("secret", "flat JSON object", "AWSPREVIOUS")),
        (ring("k1", "short"), ("ring", "at least 32 bytes", &put)),
        (ring("k1", weak), ("ring", "the key \"k1\" is a placeholder", "replace the key \"k1\"")),
        (ring("k2", &key), ("ring", "\"signing\" must name one of the keys", "let \"signing\" be the name of a key")),
    ] {
        planted(&world, (check, problem, mend), secret(text.clone()), secret(good.clone())).await;
        let said = world.0.run("doctor").output;
        assert!(!said.contains(&key) && !said.contains(weak), "{said}");
    }
    // The signing key is for another algorithm.
    let algorithm = |name: &'static str| {
        move |stack: &Shared| {
            let mut stack = stack.get();
            for variables in stack.functions.values_mut() {
                variables.insert("JWT_ALGORITHM".into(), name.into());
            }
        }
    };
    let said = ("ring", "is for HS256, and JWT_ALGORITHM is ES256", "`freshkey keys add ES256`");
    planted(&world, said, algorithm("ES256"), algorithm("HS256")).await;
    let said = ("ring", "", "sam deploy --parameter-overrides JwtAlgorithm=");
    planted(&world, said, algorithm("ES256"), algorithm("HS256")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn op1_faults_of_the_settings_are_found_and_their_mends_work() {
    let world = deployed().await;
    let issuer = world.1.get().parameters["JwtIssuer"].clone();
    let set = |name: &'static str, value: &str| {
        let value = value.to_owned();
        move |stack: &Shared| {
            let mut stack = stack.get();
            for variables in stack.functions.values_mut() {
                variables.insert(name.into(), value.clone());
            }
        }
    };
    let (slash, origin) = ("https://app.example.com/", "https://app.example.com");
    let mend = "sam deploy --parameter-overrides AllowedOrigins=https://app.example.com";
    let said = ("origins", "slash at the end", mend);
    planted(&world, said, set("ALLOWED_ORIGINS", slash), set("ALLOWED_ORIGINS", origin)).await;
    let open = "http://app.example.com,http://localhost:5173";
    let said = ("origins", "http://app.example.com, which is not https", mend);
    planted(&world, said, set("ALLOWED_ORIGINS", open), set("ALLOWED_ORIGINS", origin)).await;
    let default = "https://freshkey.example";
    let mend = format!("sam deploy --parameter-overrides JwtIssuer={issuer}");
    let said = ("issuer", "as in the template", mend.as_str());
    planted(&world, said, set("JWT_ISSUER", default), set("JWT_ISSUER", &issuer)).await;
    let said = ("issuer", "must be an https URL", mend.as_str());
    planted(&world, said, set("JWT_ISSUER", "http://auth.example.com"), set("JWT_ISSUER", &issuer)).await;
    let said = ("published-keys", "does not answer", mend.as_str());
    planted(&world, said, set("JWT_ISSUER", &format!("{issuer}/nowhere")), set("JWT_ISSUER", &issuer)).await;
    // It has no parameter.
    let said =
        ("configuration", "JWT_LEEWAY_SECONDS must be a whole number", "set JWT_LEEWAY_SECONDS in template.yaml");
    planted(&world, said, set("JWT_LEEWAY_SECONDS", "61"), set("JWT_LEEWAY_SECONDS", "0")).await;
    // CloudFormation hides the parameter.
    let said = ("configuration", "TRUSTED_PROXY_SECRET must be at least 32 bytes", "TrustedProxySecret=");
    planted(&world, said, set("TRUSTED_PROXY_SECRET", "short"), set("TRUSTED_PROXY_SECRET", "")).await;
    // A setting of the mailer alone.
    let said = ("configuration", "mailer: CONFIRM_URL must be an https URL", "ConfirmUrl=");
    let confirm = "https://app.example.com/confirm";
    planted(&world, said, set("CONFIRM_URL", "app"), set("CONFIRM_URL", confirm)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn op1_a_right_that_a_function_lacks_is_found_with_the_statement_that_it_needs() {
    let world = deployed().await;
    let table = format!("arn:aws:dynamodb:eu-central-1:111122223333:table/{}", world.1.get().table.0);
    for (function, action, resource) in [
        ("login", "dynamodb:GetItem", table.as_str()),
        ("refresh", "dynamodb:PutItem", &table),
        ("keys", "secretsmanager:GetSecretValue", SECRET),
        ("mailer", "dynamodb:GetRecords", &format!("{table}/stream/x")),
        ("mailer", "ses:SendEmail", "arn:aws:ses:eu-central-1:111122223333:identity/auth.example.com"),
    ] {
        let forbid = |stack: &Shared| stack.get().forbidden = [(function, action)].into();
        let allow = |stack: &Shared| stack.get().forbidden.clear();
        let problem = format!("The function {function} may not do {action} on {resource}.");
        let statement = format!(
            "aws iam put-role-policy --role-name {function}-role --policy-name freshkey-{function} --policy-document \
             '{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":[\"{action}\"],\
             \"Resource\":\"{resource}\"}}]}}'"
        );
        planted(&world, ("rights", &problem, &statement), forbid, allow).await;
    }
    // Policies have conditions on the keys of items, and on the sender.
    let identity = "arn:aws:ses:eu-central-1:111122223333:identity/auth.example.com";
    let stream = format!("{table}/stream/x");
    let mut asked = [
        (table.as_str(), "dynamodb:LeadingKeys MAIL#x PROOF#x LIMIT#mail-x stringList"),
        (&table, "dynamodb:LeadingKeys EMAIL#x USER#x stringList"),
        (&stream, ""),
        (identity, "ses:FromAddress no-reply@auth.example.com string"),
    ];
    asked.sort_unstable();
    let simulated = world.1.get().simulated.clone();
    let of_mailer = simulated.iter().filter(|(function, _, _)| function == "mailer");
    let of_mailer: Vec<_> = of_mailer.map(|(_, resource, context)| (resource.as_str(), context.as_str())).collect();
    assert_eq!(of_mailer, asked);
    assert!(simulated.contains(&("keys".into(), SECRET.into(), String::new())));
    world.1.get().explicitly = true;
    world.1.get().forbidden = [("login", "dynamodb:GetItem")].into();
    let (_, mend) = found(&world.0.run("doctor"), "rights");
    assert!(mend.contains("remove the statement that denies it, in the policies of the role login-role"), "{mend}");
}

#[tokio::test(flavor = "multi_thread")]
async fn op1_a_clock_that_is_off_by_a_minute_is_found() {
    let world = deployed().await;
    for (ahead, problem) in [(-62, "seconds ahead of that of AWS"), (62, "seconds behind that of AWS")] {
        let off = |stack: &Shared| stack.get().ahead = ahead;
        planted(&world, ("clock", problem, "timedatectl set-ntp true"), off, |stack| stack.get().ahead = 0).await;
    }
    // Seconds of a slow network are none of the clock's.
    world.1.get().ahead = 4;
    check_all_well(world.0.run("doctor"));
    // The clock is judged even if AWS refuses everything because of it.
    (world.1.get().ahead, world.1.get().denied) = (3600, ["GetCallerIdentity", "DescribeStacks"].into());
    let run = world.0.run("doctor");
    assert_eq!((run.code, checks(&run)), (3, vec!["clock"]));
    assert_eq!(run.objects[0]["ok"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn op1_an_alarm_that_reaches_nobody_is_found() {
    let world = deployed().await;
    let actions =
        |actions: Vec<String>| move |stack: &Shared| drop(stack.get().alarms.insert("auth-reuse".into(), actions));
    let said = ("alarms", "These alarms notify nobody: auth-reuse", "sam deploy --parameter-overrides AlarmEmail=");
    planted(&world, said, actions(vec![]), actions(vec![TOPIC.into()])).await;
    let subscriptions = |list: Vec<String>| move |stack: &Shared| stack.get().subscriptions = list;
    let subscribe = format!("aws sns subscribe --topic-arn {TOPIC}");
    let said = ("alarm-topics", "no confirmed subscription", subscribe.as_str());
    for unconfirmed in [vec![], vec!["PendingConfirmation".to_owned()]] {
        planted(&world, said, subscriptions(unconfirmed), subscriptions(vec![format!("{TOPIC}:1")])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn op1_mail_that_ses_does_not_send_is_found() {
    let world = deployed().await;
    let sandbox = |is_out: bool| move |stack: &Shared| stack.get().production = is_out;
    planted(&world, ("mail", "sandbox", "put-account-details"), sandbox(false), sandbox(true)).await;
    let verified = |list: Vec<&'static str>| {
        move |stack: &Shared| stack.get().verified = list.into_iter().map(str::to_owned).collect()
    };
    // The address, its domain or the domain above that.
    for identity in ["no-reply@auth.example.com", "auth.example.com", "example.com"] {
        let said = ("mail", "no-reply@auth.example.com", "create-email-identity --email-identity auth.example.com");
        planted(&world, said, verified(vec!["com", "other.example"]), verified(vec![identity])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_what_cannot_be_asked_is_named_and_everything_else_is_checked() {
    let (world, stack) = deployed().await;
    for (denied, action, blind) in [
        ("DescribeTimeToLive", "dynamodb:DescribeTimeToLive: AccessDeniedException", vec!["table-ttl"]),
        ("DescribeTable", "dynamodb:DescribeTable: AccessDeniedException", vec!["table-keys", "table-stream"]),
        (
            "DescribeContinuousBackups",
            "dynamodb:DescribeContinuousBackups: AccessDeniedException",
            vec!["table-backups"],
        ),
        ("GetSecretValue", "secretsmanager:GetSecretValue: AccessDeniedException", vec!["secret", "ring"]),
        (
            "GetFunctionConfiguration",
            "lambda:GetFunctionConfiguration: AccessDeniedException",
            vec!["configuration", "origins", "rights"],
        ),
        ("SimulatePrincipalPolicy", "iam:SimulatePrincipalPolicy: AccessDenied", vec!["rights"]),
        ("DescribeAlarms", "cloudwatch:DescribeAlarms: AccessDeniedException", vec!["alarms", "alarm-topics"]),
        ("ListSubscriptionsByTopic", "sns:ListSubscriptionsByTopic: AccessDenied", vec!["alarm-topics"]),
        ("GetAccount", "ses:GetAccount: AccessDeniedException", vec!["mail"]),
        ("GetEmailIdentity", "ses:GetEmailIdentity: AccessDeniedException", vec!["mail"]),
        (
            "ListStackResources",
            "cloudformation:ListStackResources: AccessDenied",
            vec!["configuration", "origins", "rights", "alarms", "alarm-topics"],
        ),
    ] {
        stack.get().denied = [denied].into();
        let run = world.run("doctor");
        assert_eq!((run.code, checks(&run)), (3, CHECKS.to_vec()), "{run:?}");
        let not_well = run.objects.iter().filter(|finding| finding["ok"] != true);
        let unknown: Vec<_> = not_well.map(|finding| (finding["check"].as_str().unwrap(), &finding["ok"])).collect();
        assert_eq!(unknown, blind.iter().map(|check| (*check, &Value::Null)).collect::<Vec<_>>(), "{denied}");
        let failure: Value = serde_json::from_str(&run.errors).unwrap();
        assert_eq!(failure, json!({ "error": "not_checked", "message": action }));
        assert!(run.output.contains(&format!("not checked: {action}")), "{}", run.output);
    }
    // A fault that is known is said before what is not known.
    stack.get().backups = false;
    assert_eq!(world.run("doctor").code, 1);
    stack.get().denied = ["DescribeStacks"].into();
    let (code, errors) = (world.run("doctor").code, world.run("doctor").errors);
    assert!(code == 3 && errors.contains("cloudformation:DescribeStacks: AccessDenied"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mail_and_without_a_stack_what_makes_no_sense_is_skipped() {
    let (world, stack) = deployed().await;
    {
        let mut stack = stack.get();
        stack.parameters.insert("MailFrom".into(), String::new());
        for name in ["mailer", "recovery", "email"] {
            stack.functions.remove(name);
        }
        for variables in stack.functions.values_mut() {
            variables.insert("MAIL_FROM".into(), String::new());
        }
    }
    // These rights are for mail alone.
    stack.get().forbidden = [("refresh", "dynamodb:PutItem"), ("account", "dynamodb:PutItem")].into();
    let run = world.run("doctor");
    let skipped = |run: &Run| -> Vec<_> {
        let skipped = run.objects.iter().filter(|finding| finding["ok"].is_null());
        skipped.map(|finding| format!("{} {}", finding["check"], finding["problem"]).replace('"', "")).collect()
    };
    assert_eq!(skipped(&run), ["table-stream skipped: mail is off", "mail skipped: mail is off"]);
    assert_eq!(run.code, 0, "{run:?}");

    let alarms = std::mem::take(&mut stack.get().alarms);
    let without = skipped(&world.run("doctor"));
    let none = ["alarms skipped: the stack has no alarms", "alarm-topics skipped: the stack has no alarms"];
    assert_eq!(without[1..3], none);
    stack.get().alarms = alarms;

    let (mut world, _) = signed_up().await;
    let run = world.run("doctor");
    assert_eq!((run.code, checks(&run)), (0, CHECKS.to_vec()), "{run:?}");
    let well = run.objects.iter().filter(|finding| finding["ok"] == true);
    assert_eq!(well.map(|finding| finding["check"].clone()).collect::<Vec<_>>(), ["clock", "table-keys", "table-ttl"]);
    assert!(skipped(&run).contains(&"rights skipped: there is no stack".to_owned()), "{run:?}");
    world.target[1] = "Nowhere".into();
    assert!(found(&world.run("doctor"), "table-keys").0.contains("Nowhere"));
    world.target[3] = "http://127.0.0.1:1".into();
    let run = world.run("doctor");
    assert_eq!(run.code, 3, "{run:?}");
}
