//! `template.yaml` agrees with the code: its routes, permissions and variables are
//! those of the functions.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use freshkey::config::DEADLINE;
use freshkey::config::{Config, MailerConfig};
use freshkey::id::UserId;
use freshkey::metrics::{Metric, NAMESPACE, OLDEST_MAIL};
use http::{Method, StatusCode};
use lambda_runtime::Context;
use local::TEMPLATE;
use local::template::{Function, Route, Template};
use serde_json::json;
use serde_norway::Value;

use crate::imported;
use crate::wire::{Call, Fate};
use crate::world::{EMAIL, HASTY, PASSWORD, Reply, User, World, claims, signed_up_with, world_with};

const HOUR: u64 = 3600;
const HTTP_API: &str = "AWS::Serverless::HttpApi";
const SECRET: (&str, &str) = ("JWT_SECRET_KEY", "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a");
const ME: &str = "/api/v1/users/me";
const SESSIONS: &str = "/api/v1/auth/sessions";
/// A function that mounts the layer and does nothing else with the table.
const LAYER: &str = "examples/protected";
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/protected/template.yaml");

const AUTHORIZER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/authorizer/template.yaml");

/// The parameters with which the stack has mail.
const MAIL: [(&str, &str); 3] = [
    ("MailFrom", "no-reply@example.com"),
    ("ResetUrl", "https://app.example.com/reset"),
    ("ConfirmUrl", "https://app.example.com/confirm"),
];
/// The same as variables.
const MAIL_VARIABLES: [(&str, &str); 3] = [
    ("MAIL_FROM", "no-reply@example.com"),
    ("RESET_URL", "https://app.example.com/reset"),
    ("CONFIRM_URL", "https://app.example.com/confirm"),
];

/// Actions of each function, each with a partition key, or with the beginning of one.
type Actions = BTreeMap<String, BTreeSet<(String, String)>>;

fn yaml(text: &str) -> Value {
    serde_norway::from_str(text).unwrap()
}

/// The template, unresolved.
fn template() -> Value {
    read(TEMPLATE)
}

fn read(path: &str) -> Value {
    yaml(&std::fs::read_to_string(path).unwrap())
}

/// What is deployed with `parameters`.
fn deployed(parameters: &[(&str, &str)]) -> Value {
    local::template::deployed(Path::new(TEMPLATE), parameters).unwrap_or_else(|error| panic!("{parameters:?}: {error}"))
}

/// What is deployed of the example with `parameters`, beside a stack.
fn beside(parameters: &[(&str, &str)]) -> Value {
    let ours = ["TableName", "TableArn", "SecretArn", "Issuer", "Audience"].map(|name| (name, name));
    local::template::deployed(Path::new(EXAMPLE), &[&ours, parameters].concat()).unwrap()
}

/// What is deployed with everything that is optional, and with `more`.
fn whole(more: &[(&str, &str)]) -> Value {
    let optional = [
        KEY,
        ("AllowedOrigins", "https://a.example"),
        ("DomainName", "api.example.com"),
        ("CertificateArn", "arn:aws:acm:eu-central-1:123456789012:certificate/1234abcd-12ab-34cd-56ef-1234567890ab"),
        ("BasePath", "auth"),
        ("HostedZoneId", "Z0123456789"),
        ("DisableExecuteApiEndpoint", "true"),
        ("TruststoreUri", "s3://bucket/truststore.pem"),
        ("ExtraCorsHeaders", "traceparent,tracestate"),
        ("AlarmTopicArn", "arn:aws:sns:eu-central-1:123456789012:ops"),
        ("AlarmEmail", "ops@example.com"),
        ("Dashboard", "true"),
        ("Tracing", "Active"),
        ("HashingConcurrency", "5"),
    ];
    let parameters = [&MAIL[..], &optional, more].concat();
    assert_eq!(refused(&parameters), None);
    deployed(&parameters)
}

/// The ARN of a resource of the stack.
fn arn(name: &str) -> Value {
    format!("arn:aws:local:local:000000000000:{name}").into()
}

/// The functions as they are deployed with `parameters`.
fn functions(parameters: &[(&str, &str)]) -> Vec<Function> {
    Template::read(Path::new(TEMPLATE), parameters).unwrap().functions
}

/// The resources of a type, by name.
fn resources(template: &Value, kind: &str) -> Vec<(String, Value)> {
    let resources = template["Resources"].as_mapping().unwrap().iter();
    let of_kind = resources.filter(|(_, resource)| resource["Type"].as_str() == Some(kind));
    of_kind.map(|(name, resource)| (name.as_str().unwrap().to_owned(), resource.clone())).collect()
}

fn only(template: &Value, kind: &str) -> Value {
    let [(_, resource)] = resources(template, kind).try_into().unwrap();
    resource
}

/// The texts of a value that is one text or a list of them.
fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_sequence().map_or(std::slice::from_ref(value), Vec::as_slice);
    list.iter().map(|text| text.as_str().unwrap()).collect()
}

/// Each function with its properties.
fn lambdas(template: &Value) -> Vec<(String, Value)> {
    let functions = resources(template, "AWS::Serverless::Function").into_iter();
    let name = |properties: &Value| properties["CodeUri"].as_str().unwrap().replace("functions/", "");
    functions.map(|(_, function)| (name(&function["Properties"]), function["Properties"].clone())).collect()
}

/// The statements of a function's own policies.
fn statements(properties: &Value) -> Vec<&Value> {
    let policies = properties["Policies"].as_sequence().unwrap().iter();
    policies.filter_map(|policy| policy.get("Statement")?.as_sequence()).flatten().collect()
}

/// What a statement allows: actions, on items whose partition keys have one of these
/// beginnings.
struct Right {
    actions: Vec<String>,
    prefixes: Vec<String>,
}

impl Right {
    fn of(statement: &Value) -> Self {
        let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let keys = statement.get("Condition").and_then(|condition| condition.get("ForAllValues:StringLike"));
        let keys = keys.map(|like| texts(&like["dynamodb:LeadingKeys"]));
        let prefixes = keys.map(|keys| keys.into_iter().map(|key| key.strip_suffix('*').unwrap()).collect());
        Self { actions: owned(texts(&statement["Action"])), prefixes: owned(prefixes.unwrap_or(vec![""])) }
    }

    fn covers(&self, (action, key): &(String, String)) -> bool {
        self.actions.contains(action) && self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    /// The parts of it that none of these actions needs.
    fn needless(&self, needed: &BTreeSet<(String, String)>) -> Vec<&String> {
        let needed: Vec<_> = needed.iter().filter(|need| self.covers(need)).collect();
        let actions = self.actions.iter().filter(|action| !needed.iter().any(|(needed, _)| needed == *action));
        let prefixes = self.prefixes.iter().filter(|prefix| !needed.iter().any(|(_, key)| key.starts_with(*prefix)));
        actions.chain(prefixes).collect()
    }
}

/// The actions that a call needs, each with the partition key of the item. A
/// transaction needs those of the calls that its members are equivalent to.
fn needed(call: &Call) -> Vec<(String, String)> {
    if ["", "SendEmail"].contains(&call.operation.as_str()) {
        return vec![("ses:SendEmail".into(), String::new())];
    }
    let key = |call: &serde_json::Value| {
        let item = ["Key", "Item"].into_iter().find_map(|name| call.get(name));
        let pk = item.map_or_else(|| condition_value(call), |item| &item["pk"]);
        pk["S"].as_str().unwrap_or_else(|| panic!("no partition key in {call}")).to_owned()
    };
    match call.body["TransactItems"].as_array() {
        Some(members) => {
            let members = members.iter().map(|member| member.as_object().unwrap().iter().next().unwrap());
            members.map(|(kind, member)| (format!("dynamodb:{kind}Item"), key(member))).collect()
        }
        None => vec![(format!("dynamodb:{}", call.operation), key(&call.body))],
    }
}

/// The partition key that a query asks for.
fn condition_value(query: &serde_json::Value) -> &serde_json::Value {
    let condition = query["KeyConditionExpression"].as_str().unwrap();
    let name = condition.split_once("pk = ").unwrap().1.split(' ').next().unwrap();
    &query["ExpressionAttributeValues"][name]
}

/// Records the actions that `function` needed for `reply`.
async fn watch(seen: &mut Actions, function: &str, world: &World, reply: impl IntoFuture<Output = Reply>) -> Reply {
    world.wire.take();
    let reply = reply.await;
    note(seen, function, world);
    reply
}

/// Records the actions on the wire as those of `function`.
fn note(seen: &mut Actions, function: &str, world: &World) {
    let needed = world.wire.take().calls.iter().flat_map(needed).collect::<Vec<_>>();
    seen.entry(function.to_owned()).or_default().extend(needed);
}

/// Lets the mailer work, records the actions that it needed, and returns the token of
/// the newest link to a page in a mail to an address.
async fn mailed(seen: &mut Actions, world: &World, to: &str, page: &str) -> String {
    world.wire.take();
    world.system.deliver_mail().await.unwrap();
    note(seen, "mailer", world);
    let mails = world.system.mailbox().mails();
    let link = format!("/{page}#token=");
    let token =
        mails.iter().filter(|mail| mail.to == to).find_map(|mail| Some(mail.text.split_once(&link)?.1)).unwrap();
    token.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect()
}

/// A session whose user was disabled while its row could not be deleted.
async fn session_of_a_disabled_user(world: &World, email: &str) -> User {
    let user = world.register(email).await;
    world.wire.fault("Query", 1, Fate::Refused(400, "AccessDeniedException"));
    world.app("account").disable_user(UserId::parse(&user.id).unwrap()).await.unwrap();
    user
}

/// Makes the functions do everything that they do with AWS. Returns the actions that
/// each of them needed.
async fn walk(with_mail: bool, with_imports: bool) -> Actions {
    let mut seen = Actions::new();
    let mail = if with_mail { &MAIL_VARIABLES[..] } else { &[] };
    let imports = if with_imports { &[imported::UNTIL][..] } else { &[] };
    let variables = [&[SECRET, ("CHECK_SESSION_ON_EVERY_CALL", "true"), ("MAX_SESSIONS", "2")], mail, imports].concat();
    let (world, alice) = signed_up_with(&variables).await;
    // Notices go to addresses that are verified.
    if with_mail {
        verify(&mut seen, &world, EMAIL, &alice).await;
    }

    for email in ["bob@example.com", EMAIL] {
        let body = json!({ "email": email, "password": PASSWORD });
        watch(&mut seen, "register", &world, world.post("/api/v1/auth/register", body)).await;
    }

    watch(&mut seen, "login", &world, world.login("not her password")).await.expect(StatusCode::UNAUTHORIZED);
    for _ in 0..2 {
        world.pass(1);
        watch(&mut seen, "login", &world, world.login(PASSWORD)).await.expect(StatusCode::OK);
    }
    let stronger = world.beside(&[&[SECRET, ("ARGON2_ITERATIONS", "3")], mail].concat()).await;
    watch(&mut seen, "login", &stronger, stronger.login(PASSWORD)).await.expect(StatusCode::OK);
    watch(&mut seen, "refresh", &world, world.refresh(&alice.refresh_token)).await.expect(StatusCode::UNAUTHORIZED);

    let carol = world.register("carol@example.com").await;
    if with_mail {
        verify(&mut seen, &world, "carol@example.com", &carol).await;
    }
    for status in [StatusCode::OK, StatusCode::UNAUTHORIZED] {
        watch(&mut seen, "refresh", &world, world.refresh(&carol.refresh_token)).await.expect(status);
    }
    if with_imports {
        imported::prepare(&world).await;
        watch(&mut seen, "refresh", &world, world.refresh(imported::FOREIGN)).await.expect(StatusCode::OK);
    }
    let disabled = session_of_a_disabled_user(&world, "dave@example.com").await;
    watch(&mut seen, "refresh", &world, world.refresh(&disabled.refresh_token)).await.expect(StatusCode::UNAUTHORIZED);

    for _ in 0..2 {
        let body = json!({ "refresh_token": carol.refresh_token });
        watch(&mut seen, "logout", &world, world.post("/api/v1/auth/logout", body)).await;
    }

    let erin = world.register("erin@example.com").await;
    if with_mail {
        walk_with_mail(&mut seen, &world, &erin).await;
    }
    let disabled = session_of_a_disabled_user(&world, "frank@example.com").await;
    let robbed = world.register("grace@example.com").await;
    if with_mail {
        verify(&mut seen, &world, "grace@example.com", &robbed).await;
    }
    world.refresh(&robbed.refresh_token).await.expect(StatusCode::OK);
    world.pass(HOUR);
    // No session has this id, so only the calls of the layer are seen.
    let nothing = format!("{SESSIONS}/none");
    let mut tokens = erin.clone();
    let reused = (&robbed, StatusCode::UNAUTHORIZED);
    for (user, status) in [(&erin, StatusCode::NOT_FOUND), (&disabled, StatusCode::UNAUTHORIZED), reused] {
        let request = world.request(Method::DELETE, &nothing).bearer(&user.access_token);
        let request = request.header("x-refresh-token", &user.refresh_token);
        let reply = watch(&mut seen, LAYER, &world, request).await.expect(status);
        if let Some(access_token) = reply.headers.get("x-new-access-token") {
            tokens.access_token = access_token.to_str().unwrap().to_owned();
        }
    }
    const NEW: &str = "another river under nine bridges";
    let other = world.post("/api/v1/auth/login", json!({ "email": "erin@example.com", "password": PASSWORD }));
    let other = claims(&other.await.expect(StatusCode::OK).user().refresh_token)["sid"].as_str().unwrap().to_owned();
    for (method, path, body) in [
        (Method::GET, ME.to_owned(), json!({})),
        (Method::PATCH, ME.to_owned(), json!({ "first_name": "Erin", "phone": null })),
        (Method::GET, SESSIONS.to_owned(), json!({})),
        (Method::DELETE, format!("{SESSIONS}/{other}"), json!({})),
        (Method::DELETE, format!("{SESSIONS}?except=current"), json!({})),
        (Method::PUT, format!("{ME}/password"), json!({ "current_password": PASSWORD, "new_password": NEW })),
        (Method::POST, format!("{ME}/delete"), json!({ "password": NEW })),
    ] {
        let request = world.request(method, &path).json(body).bearer(&tokens.access_token);
        let reply = watch(&mut seen, "account", &world, request).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text);
    }
    watch(&mut seen, "keys", &world, world.get("/.well-known/jwks.json")).await.expect(StatusCode::OK);
    let carol = world.register("carol-again@example.com").await;
    world.wire.take();
    let me = Route { method: Method::GET, path: ME.into() };
    let answer = invoke(&world, "authorizer", &route_key(&me), &me, "", &carol).await;
    assert_eq!(answer["isAuthorized"], true);
    note(&mut seen, "authorizer", &world);
    let layer = seen[LAYER].clone();
    seen.entry("account".into()).or_default().extend(layer);
    seen
}

/// Follows the link in the newest mail to an address of this user.
async fn verify(seen: &mut Actions, world: &World, address: &str, user: &User) {
    let token = mailed(seen, world, address, "confirm").await;
    let request = world.post("/api/v1/users/me/email/confirm", json!({ "token": token })).bearer(&user.access_token);
    watch(seen, "email", world, request).await.expect(StatusCode::OK);
}

/// The same for what a user does with mail.
async fn walk_with_mail(seen: &mut Actions, world: &World, erin: &User) {
    const ERIN: &str = "erin@example.com";
    const AWAY: &str = "erin@elsewhere.example";
    let verification = world.post("/api/v1/users/me/email/verification", json!({})).bearer(&erin.access_token);
    watch(seen, "email", world, verification).await.expect(StatusCode::ACCEPTED);
    verify(seen, world, ERIN, erin).await;
    // There and back. The pause is the limit of mails of a user.
    for address in [AWAY, ERIN] {
        world.pass(60);
        let body = json!({ "email": address, "password": PASSWORD });
        let change = world.request(Method::PUT, "/api/v1/users/me/email").json(body).bearer(&erin.access_token);
        watch(seen, "email", world, change).await.expect(StatusCode::ACCEPTED);
        verify(seen, world, address, erin).await;
    }
    let mallory = world.register("mallory@example.com").await;
    for (email, _) in [("mallory@example.com", mallory), ("nobody@example.com", erin.clone())] {
        let forgot = world.post("/api/v1/auth/password/forgot", json!({ "email": email }));
        watch(seen, "recovery", world, forgot).await.expect(StatusCode::ACCEPTED);
    }
    let token = mailed(seen, world, "mallory@example.com", "reset").await;
    let reset = json!({ "token": token, "new_password": "another river under nine bridges" });
    let reset = world.post("/api/v1/auth/password/reset", reset);
    watch(seen, "recovery", world, reset).await.expect(StatusCode::NO_CONTENT);
    world.system.deliver_mail().await;
    note(seen, "mailer", world);
}

#[tokio::test]
async fn re14_ml20_each_function_may_do_to_the_table_what_it_does_and_no_more() {
    for (with_mail, with_imports) in [(false, false), (true, false), (false, true)] {
        let seen = Box::pin(walk(with_mail, with_imports)).await;
        let mail = if with_mail { &MAIL[..] } else { &[] };
        let imports = if with_imports { &[("ImportedTokensUntil", imported::UNTIL.1)][..] } else { &[] };
        let [(_, example)] = lambdas(&beside(&mail[..mail.len().min(1)])).try_into().unwrap();
        let ours = lambdas(&deployed(&[mail, imports].concat()));
        let functions: BTreeMap<_, _> = ours.into_iter().chain([(LAYER.to_owned(), example)]).collect();
        assert!(seen.keys().eq(functions.keys()), "{:?}", seen.keys());
        for (name, properties) in &functions {
            let rights: Vec<_> = statements(properties).into_iter().map(Right::of).collect();
            let lacks = seen[name].iter().filter(|need| !rights.iter().any(|right| right.covers(need)));
            let lacks: Vec<_> = lacks.collect();
            assert!(lacks.is_empty(), "{name} makes calls that its template does not allow: {lacks:?}");
            let on_the_wire = |action: &String| !is_of_stream(action) && action != "secretsmanager:GetSecretValue";
            let rights = rights.iter().filter(|right| right.actions.iter().all(on_the_wire));
            let needless: Vec<_> = rights.flat_map(|right| right.needless(&seen[name])).collect();
            assert!(needless.is_empty(), "the template of {name} allows calls that it never makes: {needless:?}");
        }
    }
}

/// The functions that exist only with mail.
const BEHIND_MAIL: [&str; 3] = ["email", "mailer", "recovery"];

/// Whether Lambda itself makes this call for a function, to read the table's stream.
fn is_of_stream(action: &str) -> bool {
    action.ends_with("Stream")
        || action.ends_with("Streams")
        || ["dynamodb:GetRecords", "dynamodb:GetShardIterator"].contains(&action)
}

#[test]
fn re14_ml20_nothing_is_allowed_but_calls_to_this_table_and_this_secret_and_mail_from_one_address() {
    let secret = [("AWSSecretsManagerGetSecretValuePolicy", [("SecretArn", arn("Secret"))])];
    let secret = serde_norway::to_value(BTreeMap::from(secret.map(|(name, of)| (name, BTreeMap::from(of))))).unwrap();
    let deployed = deployed(&MAIL);
    for (name, properties) in lambdas(&deployed) {
        let policies = properties["Policies"].as_sequence().unwrap();
        let has_secret = !["recovery", "mailer"].contains(&name.as_str());
        assert_eq!(policies.iter().filter(|policy| **policy == secret).count(), usize::from(has_secret), "{name}");
        let own = policies.iter().filter(|policy| policy.get("Statement").is_some()).count();
        assert_eq!(own, usize::from(name != "keys"), "{name}");
        assert_eq!(policies.len(), own + usize::from(has_secret), "{name}");
        for statement in statements(&properties) {
            assert_eq!(statement["Effect"].as_str(), Some("Allow"), "{name}");
            let actions = texts(&statement["Action"]);
            assert!(actions.iter().all(|action| !action.contains('*')), "{name}: {actions:?}");
            if statement["Resource"] == arn("Table") {
                assert!(
                    actions.iter().all(|action| action.starts_with("dynamodb:") && !is_of_stream(action)),
                    "{name}: {actions:?}"
                );
                continue;
            }
            assert_eq!(name, "mailer", "{statement:?}");
            if actions == ["ses:SendEmail"] {
                assert_eq!(statement["Condition"], yaml("StringEquals: { ses:FromAddress: no-reply@example.com }"));
                // An identity may have a default configuration set, which SES checks too.
                let resources =
                    ["identity", "configuration-set"].map(|kind| format!("arn:aws:ses:local:000000000000:{kind}/*"));
                assert_eq!(texts(&statement["Resource"]), resources);
            } else {
                assert!(actions.iter().all(|action| is_of_stream(action)), "{actions:?}");
                assert_eq!(statement["Resource"], "arn:aws:local:local:000000000000:Table/stream/*");
            }
        }
    }
    // Nothing else in the template gives rights, whatever is switched on.
    let deployed = whole(&[]);
    let policies = resources(&deployed, "AWS::IAM::Policy");
    assert_eq!(policies.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["KmsRights"]);
    for kind in ["AWS::IAM::ManagedPolicy", "AWS::IAM::Role", "AWS::Lambda::Permission", "AWS::SNS::TopicPolicy"] {
        assert!(resources(&deployed, kind).is_empty(), "{kind}");
    }
}

const KEY: (&str, &str) =
    ("KmsKeyArn", "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab");

#[test]
fn re14_a_key_of_the_team_encrypts_table_and_secret_and_each_function_may_decrypt_through_these_two() {
    for mail in [&[], &MAIL[..]] {
        let deployed = deployed(&[mail, &[KEY]].concat());
        let table = &only(&deployed, "AWS::DynamoDB::Table")["Properties"]["SSESpecification"];
        assert_eq!(*table, yaml(&format!("{{ SSEEnabled: true, SSEType: KMS, KMSMasterKeyId: '{}' }}", KEY.1)));
        assert_eq!(only(&deployed, "AWS::SecretsManager::Secret")["Properties"]["KmsKeyId"], KEY.1);
        let rights = &only(&deployed, "AWS::IAM::Policy")["Properties"];
        let [statement] = &rights["PolicyDocument"]["Statement"].as_sequence().unwrap()[..] else {
            panic!("{rights:?}")
        };
        assert_eq!((&statement["Action"], &statement["Resource"]), (&"kms:Decrypt".into(), &KEY.1.into()));
        let services = &statement["Condition"]["StringEquals"]["kms:ViaService"];
        assert_eq!(texts(services), ["dynamodb.local.amazonaws.com", "secretsmanager.local.amazonaws.com"]);
        let roles: BTreeSet<_> = texts(&rights["Roles"]).into_iter().map(str::to_owned).collect();
        let functions = resources(&deployed, "AWS::Serverless::Function").into_iter();
        assert_eq!(roles, functions.map(|(name, _)| name + "Role").collect());
    }
}

const EXISTING: [(&str, &str); 2] = [
    ("ExistingTable", "restored"),
    ("ExistingSecretArn", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:kept-AbCdEf"),
];
const STREAM: (&str, &str) = (
    "ExistingTableStreamArn",
    "arn:aws:dynamodb:eu-central-1:123456789012:table/restored/stream/2026-11-26T00:00:00.000",
);

#[test]
fn a_stack_takes_an_existing_table_and_secret_and_everything_in_it_uses_these_two() {
    const TABLE: &str = "arn:aws:dynamodb:local:000000000000:table/restored";
    for (mail, stream, bell) in [(&[][..], &[][..], None), (&MAIL, &[], None), (&MAIL, &[STREAM], Some(STREAM.1))] {
        let deployed = deployed(&[mail, stream, &EXISTING].concat());
        for kind in ["AWS::DynamoDB::Table", "AWS::SecretsManager::Secret"] {
            assert!(resources(&deployed, kind).is_empty(), "{kind}");
        }
        let variables = &deployed["Globals"]["Function"]["Environment"]["Variables"];
        assert_eq!(
            (&variables["TABLE_NAME"], &variables["JWT_SECRET_ARN"]),
            (&"restored".into(), &EXISTING[1].1.into())
        );
        for (name, properties) in lambdas(&deployed) {
            for statement in statements(&properties).into_iter().filter(|it| it["Action"] != "ses:SendEmail") {
                let resource = statement["Resource"].as_str().unwrap();
                let is_stream = texts(&statement["Action"]).into_iter().any(is_of_stream);
                assert_eq!(resource, if is_stream { format!("{TABLE}/stream/*") } else { TABLE.into() }, "{name}");
            }
            let policies = properties["Policies"].as_sequence().unwrap().iter();
            let secrets = policies.filter_map(|policy| policy.get("AWSSecretsManagerGetSecretValuePolicy"));
            assert!(secrets.into_iter().all(|policy| policy["SecretArn"] == EXISTING[1].1), "{name}");
        }
        let mappings = resources(&deployed, "AWS::Lambda::EventSourceMapping");
        let streams = mappings.iter().map(|(_, mapping)| mapping["Properties"]["EventSourceArn"].as_str().unwrap());
        assert_eq!(streams.collect::<Vec<_>>(), bell.into_iter().collect::<Vec<_>>());
        let outputs = &deployed["Outputs"];
        let value = |name: &str| outputs[name]["Value"].as_str().unwrap();
        assert_eq!([value("TableName"), value("TableArn"), value("SecretArn")], ["restored", TABLE, EXISTING[1].1]);
        // Neither of the stack's own is referred to anywhere.
        let text = serde_norway::to_string(&deployed).unwrap();
        for own in ["Table", "Secret"].map(|name| arn(name).as_str().unwrap().to_owned()) {
            assert!(!text.contains(&own), "{own}");
        }
        for (name, alarm) in resources(&deployed, "AWS::CloudWatch::Alarm") {
            let dimensions = alarm["Properties"]["Dimensions"].as_sequence().into_iter().flatten();
            let tables =
                dimensions.filter(|dimension| ["Table", "TableName"].contains(&dimension["Name"].as_str().unwrap()));
            assert!(tables.into_iter().all(|dimension| dimension["Value"] == "restored"), "{name}");
        }
    }
}

#[test]
fn the_url_that_the_stack_tells_is_the_one_at_which_it_answers() {
    let domain = [
        ("DomainName", "api.example.com"),
        ("CertificateArn", "arn:aws:acm:eu-central-1:123456789012:certificate/1234abcd-12ab-34cd-56ef-1234567890ab"),
    ];
    let with = |more: &[(&'static str, &'static str)]| deployed(&[&domain, more].concat());
    let url = |deployed: &Value| deployed["Outputs"]["ApiUrl"]["Value"].as_str().unwrap().to_owned();
    assert_eq!(url(&deployed(&[])), "Api.ApiEndpoint");
    assert_eq!(url(&with(&[])), "https://api.example.com");
    let closed = with(&[("BasePath", "auth/v2"), ("DisableExecuteApiEndpoint", "true")]);
    assert_eq!(url(&closed), "https://api.example.com/auth/v2");
    assert!(!serde_norway::to_string(&closed["Outputs"]).unwrap().contains("ApiEndpoint"));
    let is_closed = |deployed: &Value| only(deployed, HTTP_API)["Properties"]["DisableExecuteApiEndpoint"] == true;
    assert_eq!([is_closed(&closed), is_closed(&with(&[])), is_closed(&deployed(&[]))], [true, false, false]);
}

#[test]
fn op7_a_domain_of_the_team_leads_to_this_api_with_a_certificate_a_path_and_a_record() {
    const DOMAIN: &str = "AWS::ApiGatewayV2::DomainName";
    const MAPPING: &str = "AWS::ApiGatewayV2::ApiMapping";
    const RECORD: &str = "AWS::Route53::RecordSet";
    const CERTIFICATE: &str = "arn:aws:acm:eu-central-1:123456789012:certificate/1234abcd-12ab-34cd-56ef-1234567890ab";
    let without = deployed(&[]);
    for kind in [DOMAIN, MAPPING, RECORD] {
        assert!(resources(&without, kind).is_empty(), "{kind}");
    }
    let domain = [("DomainName", "api.example.com"), ("CertificateArn", CERTIFICATE)];
    let plain = deployed(&domain);
    let name = &only(&plain, DOMAIN)["Properties"];
    let expected = yaml(&format!(
        "{{ DomainName: api.example.com, DomainNameConfigurations:
            [{{ CertificateArn: '{CERTIFICATE}', EndpointType: REGIONAL, SecurityPolicy: TLS_1_2 }}] }}"
    ));
    assert_eq!(*name, expected);
    let mapping = yaml("{ DomainName: Domain, ApiId: Api, Stage: Api.Stage }");
    assert_eq!(only(&plain, MAPPING)["Properties"], mapping);
    assert!(resources(&plain, RECORD).is_empty());

    let more = [
        ("BasePath", "auth"),
        ("HostedZoneId", "Z0123456789"),
        ("DisableExecuteApiEndpoint", "true"),
        ("TruststoreUri", "s3://bucket/truststore.pem"),
    ];
    let whole = deployed(&[&domain[..], &more].concat());
    assert_eq!(only(&whole, MAPPING)["Properties"]["ApiMappingKey"], "auth");
    let record = yaml(
        "{ HostedZoneId: Z0123456789, Name: api.example.com, Type: A, AliasTarget:
            { DNSName: Domain.RegionalDomainName, HostedZoneId: Domain.RegionalHostedZoneId } }",
    );
    assert_eq!(only(&whole, RECORD)["Properties"], record);
    let truststore = yaml("TruststoreUri: s3://bucket/truststore.pem");
    assert_eq!(only(&whole, DOMAIN)["Properties"]["MutualTlsAuthentication"], truststore);
}

#[test]
fn ml20_what_mail_needs_exists_with_mail_alone_and_the_stream_has_nothing_but_keys() {
    let names = |deployed: &Value| -> BTreeSet<String> {
        let resources = deployed["Resources"].as_mapping().unwrap().keys();
        resources.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let (without, with) = (deployed(&[]), deployed(&MAIL));
    assert!(names(&without).is_subset(&names(&with)));
    for name in names(&with) {
        let is_of_mail =
            ["Recovery", "Email", "Mailer", "OldestMail", "MailsRefused"].iter().any(|part| name.starts_with(part));
        assert_eq!(!names(&without).contains(&name), is_of_mail, "{name}");
    }
    let stream =
        |deployed: &Value| only(deployed, "AWS::DynamoDB::Table")["Properties"].get("StreamSpecification").cloned();
    assert_eq!(stream(&with), Some(yaml("StreamViewType: KEYS_ONLY")));
    assert_eq!(stream(&without), None);
    assert!(functions(&[]).iter().all(|function| !BEHIND_MAIL.contains(&function.name.as_str())));
}

#[test]
fn ml14_mail_that_waits_or_is_refused_has_an_alarm() {
    let template = deployed(&MAIL);
    for (name, statistic, threshold) in [("OldestMailSeconds", "Maximum", 300), ("MailsRefused", "Sum", 10)] {
        let alarms =
            resources(&template, "AWS::CloudWatch::Alarm").into_iter().map(|(_, alarm)| alarm["Properties"].clone());
        let [alarm] = alarms.filter(|alarm| alarm["MetricName"] == name).collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(alarm["Namespace"], NAMESPACE, "{name}");
        assert_eq!(alarm["Dimensions"], yaml("[{ Name: Table, Value: Table }]"), "{name}");
        assert_eq!(
            (&alarm["Statistic"], &alarm["Threshold"]),
            (&yaml(statistic), &yaml(&threshold.to_string())),
            "{name}"
        );
    }
}

/// The answer of `function` to a request for `route`, without the API in front of it.
/// `session` is the parameter of the route's path, if it has one.
async fn invoke(
    world: &World,
    function: &str,
    route_key: &str,
    route: &Route,
    session: &str,
    user: &User,
) -> serde_json::Value {
    let Route { method, path } = route;
    let path = path.replace("{session_id}", session);
    assert!(!path.contains('{'), "{path}");
    let mut event = json!({
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "authorization": format!("Bearer {}", user.access_token) },
        "requestContext": {
            "http": { "method": method.as_str(), "path": path, "sourceIp": "192.0.2.1", "protocol": "HTTP/1.1" },
            "routeKey": route_key,
            "timeEpoch": 0,
        },
        "isBase64Encoded": false,
    });
    if route.path != path {
        event["pathParameters"] = json!({ "session_id": session });
    }
    let function = world.system.function(function).unwrap();
    function.invoke(&event.to_string(), Context::default()).await
}

fn route_key(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

async fn status(world: &World, function: &str, route_key: &str, route: &Route, session: &str, user: &User) -> u64 {
    invoke(world, function, route_key, route, session, user).await["statusCode"].as_u64().unwrap()
}

#[tokio::test]
async fn in9_a_function_answers_the_routes_that_the_template_gives_it_and_404_for_every_other() {
    let world = world_with(&MAIL_VARIABLES).await;
    let mut functions = functions(&MAIL);
    // The authorizer has no routes: API Gateway calls it for routes of other APIs.
    functions.retain(|function| !function.routes.is_empty());
    let routes = || functions.iter().flat_map(|function| &function.routes);
    // API Gateway and `sam local` send the route key; `cargo lambda watch` sends `$default`.
    let requests = routes().flat_map(|route| [route_key(route), "$default".to_owned()].map(|sent| (route, sent)));
    for (number, (route, sent)) in requests.enumerate() {
        let user = world.register(&format!("user-{number}@example.com")).await;
        let session = claims(&user.access_token)["sid"].as_str().unwrap().to_owned();
        let path = &route.path;
        // Its own function comes last, because it may end the session.
        let (own, others): (Vec<_>, Vec<_>) = functions.iter().partition(|function| function.routes.contains(route));
        for function in others.iter().chain(&own) {
            let status = status(&world, &function.name, &sent, route, &session, &user).await;
            let is_own = function.routes.contains(route);
            assert_ne!(status == 404, is_own, "{} {path} at {}: {status}", route.method, function.name);
            assert_ne!(status, 500, "{} {path} at {}", route.method, function.name);
        }
    }
    let user = world.register(EMAIL).await;
    for function in &functions {
        for path in ["/", "/nowhere", "/api", "/api/v1", "/api/v1/auth", "/api/v1/users/me/nothing"] {
            let route = Route { method: Method::POST, path: path.into() };
            for sent in [&route_key(&route), "$default"] {
                let status = status(&world, &function.name, sent, &route, "", &user).await;
                assert_eq!(status, 404, "{sent} {path}");
            }
        }
    }
}

#[tokio::test]
async fn head_on_a_well_known_document_answers_as_get_does_without_the_body() {
    let (world, alice) = signed_up_with(&[]).await;
    for path in ["/.well-known/jwks.json", "/.well-known/openid-configuration"] {
        let get = world.get(path).await.expect(StatusCode::OK);
        let head = world.request(Method::HEAD, path).await.expect(StatusCode::OK);
        assert_eq!(head.headers, get.headers, "{path}");
        assert!(head.text.is_empty() && !get.text.is_empty(), "{path}");
        let route = Route { method: Method::HEAD, path: path.into() };
        let answer = invoke(&world, "keys", &route_key(&route), &route, "", &alice).await;
        assert_eq!(answer["body"].as_str().unwrap_or_default(), "", "{answer}");
    }
    // A route for GET alone does not answer HEAD.
    world.request(Method::HEAD, ME).bearer(&alice.access_token).await.expect(StatusCode::NOT_FOUND);
}

#[test]
fn every_variable_that_the_code_reads_is_declared_for_each_function_and_no_other() {
    for function in functions(&MAIL) {
        let read = RefCell::new(BTreeSet::new());
        let lookup = |name: &str| {
            read.borrow_mut().insert(name.to_owned());
            function.variables.get(name).cloned()
        };
        Config::parse(lookup).unwrap();
        if function.name == "mailer" {
            MailerConfig::parse(lookup).unwrap();
        }
        let mut read = read.into_inner();
        assert!(read.remove(HASTY.0), "the variable for tests alone");
        let declared: BTreeSet<_> = function.variables.into_keys().collect();
        let differ: Vec<_> = declared.symmetric_difference(&read).cloned().collect();
        assert!(differ.is_empty(), "{}: {differ:?} are only declared or only read", function.name);
    }
}

#[test]
fn what_the_template_sets_by_default_is_what_the_code_takes_by_default() {
    let required = ["JWT_ISSUER", "JWT_AUDIENCE", "TABLE_NAME", "MAIL_FROM", "RESET_URL", "CONFIRM_URL"];
    for function in functions(&[]).into_iter().chain(functions(&MAIL)) {
        let secret = |name: &str| (name == SECRET.0).then(|| SECRET.1.to_owned());
        let set = |name: &str| secret(name).or_else(|| function.variables.get(name).cloned());
        let with_template = Config::parse(set).unwrap();
        let little = |name: &str| set(name).filter(|_| required.contains(&name) || name == SECRET.0);
        let without = Config::parse(little).unwrap();
        assert_eq!(format!("{with_template:?}"), format!("{without:?}"), "{}", function.name);
        if function.name == "mailer" {
            let [with_template, without] = [MailerConfig::parse(set), MailerConfig::parse(little)].map(Result::unwrap);
            assert_eq!(format!("{with_template:?}"), format!("{without:?}"));
        }
    }
}

/// The settings of the functions of a stack, which a test can change.
struct Settings(Vec<Function>);

impl Settings {
    /// Those of a stack with these parameters.
    fn of(parameters: &[(&str, &str)]) -> Self {
        Self(functions(parameters))
    }

    /// Whether every function starts with another value of this variable, and why not.
    fn start_with(&self, variable: &str, value: &str) -> Result<(), String> {
        for function in &self.0 {
            let set = |name: &str| function.variables.get(name).cloned();
            let lookup = |name: &str| if name == variable { Some(value.to_owned()) } else { set(name) };
            let config = if function.name == "mailer" {
                MailerConfig::parse(lookup).map(drop)
            } else {
                Config::parse(lookup).map(drop)
            };
            config.map_err(|fault| format!("{}: {fault}", function.name))?;
        }
        Ok(())
    }
}

/// A parameter of the template, and which values CloudFormation takes for it.
struct Parameter {
    name: String,
    schema: jsonschema::Validator,
    declared: Value,
}

impl Parameter {
    fn all() -> Vec<Self> {
        let template = template();
        let parameters = template["Parameters"].as_mapping().unwrap().iter();
        parameters.map(|(name, declared)| Self::new(name.as_str().unwrap(), declared)).collect()
    }

    fn named(name: &str) -> Self {
        Self::new(name, &template()["Parameters"][name])
    }

    fn new(name: &str, declared: &Value) -> Self {
        let mut schema = json!({ "type": "string" });
        if let Some(pattern) = declared.get("AllowedPattern") {
            schema["pattern"] = format!("^(?:{})$", pattern.as_str().unwrap()).into();
        }
        for (ours, theirs) in [("minLength", "MinLength"), ("maxLength", "MaxLength")] {
            if let Some(length) = declared.get(theirs).and_then(Value::as_u64) {
                schema[ours] = length.into();
            }
        }
        if let Some(values) = declared.get("AllowedValues").and_then(Value::as_sequence) {
            schema["enum"] = values.iter().map(shown).collect();
        }
        let schema = jsonschema::validator_for(&schema).unwrap();
        Self { name: name.into(), schema, declared: declared.clone() }
    }

    fn takes(&self, value: &str) -> bool {
        self.schema.is_valid(&json!(value))
    }

    /// The variable that it sets, if it sets one.
    fn variable(&self) -> Option<String> {
        let template = template();
        let mailer = &template["Resources"]["MailerFunction"]["Properties"];
        let variables = [&template["Globals"]["Function"], mailer].map(|at| at["Environment"]["Variables"].clone());
        let variables = variables.iter().flat_map(|variables| variables.as_mapping().unwrap());
        let reference = yaml(&format!("!Ref {}", self.name));
        let refers = |value: &Value| match value {
            Value::Tagged(tagged) if tagged.tag == "If" => tagged.value.as_sequence().unwrap().contains(&reference),
            value => *value == reference,
        };
        let mut set = variables.filter(|(_, value)| refers(value)).map(|(name, _)| name.as_str().unwrap().to_owned());
        set.next()
    }
}

fn shown(value: &Value) -> String {
    serde_norway::to_string(value).unwrap().trim().trim_matches(['\'', '"']).to_owned()
}

/// What most parameters need before they are looked at.
const NEEDED: [(&str, &str); 4] = [("AllowedOrigins", "https://a.example"), MAIL[0], MAIL[1], MAIL[2]];

/// Why CloudFormation refuses a stack with these parameters, if it does.
fn refused(parameters: &[(&str, &str)]) -> Option<String> {
    if let Some((name, _)) = parameters.iter().find(|(name, value)| !Parameter::named(name).takes(value)) {
        return Some(template()["Parameters"][*name]["ConstraintDescription"].as_str().unwrap_or(name).to_owned());
    }
    local::template::deployed(Path::new(TEMPLATE), parameters).err().map(|error| error.problem)
}

/// Numbers around every limit, and what is not a plain number.
fn numbers() -> Vec<String> {
    let limits = [0, 7, 8, 9, 59, 60, 61, 63, 64, 65, 99, 100, 999, 1000, 1001, 36_500, 36_501, 999_999, 1_000_000];
    let limits = limits.into_iter().chain([1_000_001, 9_999_999, 10_000_000, 52_560_000, 100_000_000]);
    let spelled = [
        "",
        " ",
        "-1",
        "+8",
        "08",
        " 8",
        "8 ",
        "1.5",
        "2.5",
        "1e3",
        "1e8",
        "8.",
        ".5",
        "8,5",
        "0x8",
        "NaN",
        "inf",
        "0.0",
        "0.00",
        "0.1",
        "0.5",
        "0.016",
        "0.017",
        "0.02",
        "0.019",
        "0.001",
        "0.0001",
        "0.00009",
        "0.000011",
        "0.000012",
        "9999.999999",
        "9999999.999999",
        "\u{663}",
        "8\n",
        "none",
        "true",
    ];
    limits.map(|limit: u64| limit.to_string()).chain(spelled.map(str::to_owned)).collect()
}

/// Everything that is written with one part of each list after the other.
fn written(parts: &[&[&str]]) -> Vec<String> {
    let one_more = |texts: Vec<String>, list: &&[&str]| -> Vec<String> {
        texts.iter().flat_map(|text| list.iter().map(move |part| format!("{text}{part}"))).collect()
    };
    parts.iter().fold(vec![String::new()], one_more)
}

fn hosts() -> Vec<&'static str> {
    vec![
        "a",
        "a.example",
        "app.example.com",
        "A.example",
        "a..example",
        ".a.example",
        "a.example.",
        "-a.example",
        "a-.example",
        "a_b.example",
        "localhost",
        "127.0.0.1",
        "10.1.2.3",
        "127.1",
        "127.0.0.256",
        "01.2.3.4",
        "1.2.3.4.5",
        "1.2.3",
        "1",
        "0x7f.1",
        "a.0x7f",
        "a.1",
        "[::1]",
        "[::1",
        "[0:0:0:0:0:0:0:1]",
        "xn--a.example",
        "xn--mnchen-3ya.example",
        "a.xn--zz",
        "m\u{fc}nchen.example",
        "*.example",
        "*",
        "",
        "a b",
        "a%20b",
        "a@b.example",
        "user:x@a.example",
        "ab--c.example",
        "x.localhost",
        "a.co",
        "a.c",
    ]
}

const PORTS: [&str; 13] =
    ["", ":", ":0", ":1", ":80", ":443", ":0443", ":3000", ":65535", ":65536", ":99999", ":x", ":-1"];

/// Texts around the edges of what the parameter of a variable should take.
fn candidates(variable: &str) -> Vec<String> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let long = |length: usize| "x".repeat(length);
    match variable {
        "ALLOWED_ORIGINS" => {
            let schemes = &[
                "https://",
                "http://",
                "capacitor://",
                "chrome-extension://",
                "ws://",
                "wss://",
                "ftp://",
                "file://",
                "blob:https://",
                "HTTPS://",
                "app+x://",
                "1://",
                "://",
                "",
            ];
            let one = written(&[schemes, &hosts(), &PORTS]);
            let ends = written(&[schemes, &["a.example"], &["/", "/x", "?", "#", "\\", ",", ", https://b.example"]]);
            let two = written(&[
                &["https://a.example,", "https://a.example:443,", "https://a.example, ", ",", "https://a.example,,"],
                &["https://b.example:8443", "http://b.example:80", "capacitor://localhost", "https://xn--a.b", "*", ""],
            ]);
            [one, ends, two].concat()
        }
        "MAIL_FROM" | "REPLY_TO" => {
            let locals = &[
                "a",
                "No.Reply+x",
                "a!#$%&'*+/=?^_`{|}~-",
                ".a",
                "a.",
                "a..b",
                "\"a b\"",
                "a b",
                "\u{e9}",
                "",
                "A <a",
                "a@b",
                &long(64),
                &long(65),
            ];
            let domains = written(&[&["@", ""], &hosts(), &["", ".com", ".com1", ".c", ">"]]);
            written(&[locals, &domains.iter().map(String::as_str).collect::<Vec<_>>()])
        }
        "RESET_URL" | "CONFIRM_URL" => {
            let schemes = &["https://", "http://", "ftp://", "javascript:", "HTTPS://", "https:/", "https:///", ""];
            let paths = &[
                "",
                "/",
                "/reset",
                "/?view=reset&x=%20y",
                "/#x",
                "/a b",
                "/\u{e9}",
                "/%",
                "\\",
                &format!("/{}", long(240)),
            ];
            written(&[schemes, &hosts(), &PORTS, paths])
        }
        "TRUSTED_PROXY_SECRET" => {
            let random = (0..100).map(|_| freshkey::entropy::bytes::<32>().map(|byte| format!("{byte:02x}")).concat());
            let made_up =
                ["0", "a", "01", "0123456789abcdef", "deadbeef", "00ff", "123", "abcdef0123456789fedcba9876543210"];
            let made_up = made_up.map(|text| text.repeat(64)[..64].to_owned());
            let others = ["", "none", "None", "change-me", "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a", &long(64)];
            let almost = freshkey::entropy::bytes::<32>().map(|byte| format!("{byte:02x}")).concat();
            let almost =
                [almost.to_uppercase(), almost[1..].into(), format!("{almost}0"), format!(" {}", &almost[1..])];
            random.chain(made_up).chain(owned(&others)).chain(almost).collect()
        }
        "APP_NAME" => {
            let letters = ["", "a", "\u{e9}", "\u{d7}", "\u{6f22}", "<", "\"", "\n", " ", "."];
            let short = written(&[&letters, &letters, &letters]);
            let lengths = [22, 23, 44, 45, 46].map(long).into_iter();
            short.into_iter().chain(lengths).chain([22, 23].map(|length| "\u{e9}".repeat(length))).collect()
        }
        "DEFAULT_ROLES" => {
            let edges = [
                "",
                "ROLE_USER",
                "a,b",
                "a, b",
                "a,,b",
                "a,",
                ",a",
                "a b",
                "\"",
                "\\",
                "\u{e9}",
                "admin:read",
                &long(256),
                &long(257),
            ];
            let many = [
                "a,".repeat(128),
                format!("{}a", "a,".repeat(127)),
                "\"".repeat(256),
                format!("{}a", "\",".repeat(127)),
            ];
            [owned(&edges), many.into()].concat()
        }
        "JWT_ISSUER" | "JWT_AUDIENCE" => owned(&[
            "",
            " ",
            "a",
            " a",
            "a ",
            "a b",
            "a\nb",
            "a\tb",
            "\u{7f}",
            "\u{e9}",
            "https://auth.example.com",
            "\"",
            "urn:freshkey:refresh",
            "urn:freshkey:device",
            "urn:freshkey:refresh ",
            "urn:freshkey:refreshed",
            "urn:freshkey",
            &long(256),
            &long(257),
            &"\"".repeat(256),
            &"\u{e9}".repeat(256),
        ]),
        "TABLE_NAME" | "JWT_SECRET_ARN" => owned(&["", "x", "restored", EXISTING[1].1, STREAM.1]),
        _ => [
            numbers(),
            owned(&["body", "cookie", "both", "Strict", "Lax", "None", "HS256", "RS256", "TRACE", "DEBUG", "false"]),
        ]
        .concat(),
    }
}

#[test]
fn whatever_the_template_takes_for_a_parameter_the_functions_start_with() {
    let settings = Settings::of(&NEEDED);
    let mut seen = BTreeSet::new();
    for parameter in Parameter::all() {
        let Some(variable) = parameter.variable() else { continue };
        let (mut taken, mut refused) = (0, 0);
        for value in candidates(&variable) {
            if !parameter.takes(&value) {
                refused += 1;
                continue;
            }
            taken += 1;
            // Unset means the stack's own table and secret, no mail (which needs the two
            // pages), and no proxy.
            let is_unset = value.is_empty()
                && ["TABLE_NAME", "JWT_SECRET_ARN", "MAIL_FROM", "RESET_URL", "CONFIRM_URL"].contains(&&*variable)
                || value == "none" && variable == "TRUSTED_PROXY_SECRET";
            if !is_unset {
                let started = settings.start_with(&variable, &value);
                assert_eq!(started, Ok(()), "{} {value:?}", parameter.name);
            }
        }
        assert!(taken > 0 && refused > 0, "{}: {taken} taken, {refused} refused", parameter.name);
        seen.insert(variable);
    }
    assert!(seen.len() > 25, "{seen:?}");
}

#[test]
fn the_template_takes_every_whole_number_that_the_functions_take() {
    let settings = Settings::of(&NEEDED);
    for (name, least, most) in [
        ("RefreshReuseIntervalSeconds", 0, 60),
        ("MaxSessions", 1, 1000),
        ("PasswordMinLength", 8, 64),
        ("LimitFailuresPerAddress", 1, 1_000_000),
        ("LimitAccountsPerAddress", 1, 1000),
        ("LimitRegistrationsPerAddress", 1, 1_000_000),
        ("LimitMailRequestsPerAddress", 1, 1_000_000),
    ] {
        let parameter = Parameter::named(name);
        let variable = parameter.variable().unwrap();
        let inside = [least, least + 1, most / 2, most - 1, most].map(|number| (number, true));
        for (number, is_allowed) in inside.into_iter().chain([(least - 1, false), (most + 1, false)]) {
            let number: i64 = number;
            assert_eq!(parameter.takes(&number.to_string()), is_allowed, "{name} {number}");
            assert_eq!(settings.start_with(&variable, &number.to_string()).is_ok(), is_allowed, "{name} {number}");
        }
    }
}

#[test]
fn what_a_team_gives_is_taken_and_what_would_stop_every_function_is_refused_before_anything_is_deployed() {
    let random = "8c1f0e5d9b7a46324f1de0c98b57a6d2f3e4150b6c798ad1e2f3041526374859";
    for taken in [
        &[][..],
        &[("AllowedOrigins", "https://app.example.com,http://localhost:5173"), ("RefreshTokenTransport", "cookie")],
        &[(
            "AllowedOrigins",
            "capacitor://localhost,chrome-extension://abcdefghijklmnopabcdefghijklmnop,http://[::1]:3000",
        )],
        &[("AllowedOrigins", "http://192.168.1.10:3000,https://a.co:65535,http://a.example:443")],
        &[
            ("JwtAccessTokenExpireMinutes", "0.1"),
            ("JwtRefreshTokenExpireDays", "0.5"),
            ("SessionAbsoluteExpireDays", "3650"),
        ],
        &[("TrustedProxySecret", random)],
        &[("TrustedProxySecret", "none")],
        &[
            ("JwtIssuer", "https://auth.example.com/auth"),
            ("JwtAudience", "my app"),
            ("DefaultRoles", "ROLE_USER,admin:read"),
        ],
        &[MAIL[0], MAIL[1], MAIL[2], ("AppName", "Ben & Jerry's"), ("ReplyTo", "No.Reply+x@a-b.example.co")],
        &[
            MAIL[0],
            ("ResetUrl", "http://localhost:3000/?view=reset"),
            ("ConfirmUrl", "https://app.example.com:8443/x?y=%20z"),
        ],
        &[("HashingConcurrency", "20")],
    ] {
        assert_eq!(refused(taken), None, "{taken:?}");
        assert_eq!(Settings::of(taken).start_with("", ""), Ok(()), "{taken:?}");
    }
    for given in [
        &[("RefreshTokenTransport", "cookie")][..],
        &[("RefreshTokenTransport", "both")],
        &[("JwtAccessTokenExpireMinutes", "0")],
        &[("JwtAccessTokenExpireMinutes", "1e8")],
        &[("JwtAccessTokenExpireMinutes", "100000000")],
        &[("JwtRefreshTokenExpireDays", "0")],
        &[("SessionAbsoluteExpireDays", "36501")],
        &[("MaxSessions", "5000")],
        &[("MaxSessions", "1.5")],
        &[("PasswordMinLength", "100")],
        &[("RefreshReuseIntervalSeconds", "2.5")],
        &[("JwtAudience", "urn:freshkey:refresh")],
        &[("JwtAudience", "urn:freshkey:device")],
        &[("JwtIssuer", " ")],
        &[("TrustedProxySecret", "change-me")],
        &[("TrustedProxySecret", "0000000000000000000000000000000000000000000000000000000000000000")],
        &[("AllowedOrigins", "https://app.example.com/")],
        &[("AllowedOrigins", "https://app.example.com:443")],
        &[("AllowedOrigins", "*")],
        &[("DefaultRoles", ",")],
        &[("LimitAccountsPerAddress", "20.5")],
        &[("HashingConcurrency", "1.5")],
        &[MAIL[0]],
        &[MAIL[0], MAIL[1]],
        &[("RequireVerifiedEmail", "true")],
        &[("NotifyNewDevice", "true")],
        &[("DomainName", "api.example.com")],
        &[("BasePath", "auth")],
        &[("HostedZoneId", "Z0123456789")],
        &[("DisableExecuteApiEndpoint", "true")],
        &[("TruststoreUri", "s3://bucket/truststore.pem")],
        &[STREAM],
    ] {
        assert!(refused(given).is_some(), "{given:?}");
    }
    assert_eq!(
        refused(&[("RefreshTokenTransport", "cookie")]).unwrap(),
        "RefreshTokenTransport cookie and both need AllowedOrigins, the origins whose pages may use the cookie."
    );
    // SAM asks for a secret until it gets an answer, so "none" must be one.
    assert_eq!(Parameter::named("TrustedProxySecret").declared["Default"], "none");
    assert!(functions(&[]).iter().all(|function| function.variables["TRUSTED_PROXY_SECRET"].is_empty()));
}

#[test]
fn each_parameter_has_one_group_a_default_that_it_takes_and_says_what_it_takes() {
    let template = template();
    let groups = &template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"];
    let grouped = groups.as_sequence().unwrap().iter().flat_map(|group| texts(&group["Parameters"]));
    let mut grouped: Vec<_> = grouped.collect();
    grouped.sort_unstable();
    let mut names: Vec<_> = Vec::new();
    for Parameter { name, schema, declared } in Parameter::all() {
        let default = shown(&declared["Default"]);
        assert!(schema.is_valid(&json!(default)), "{name}: {default}");
        assert!(declared["Description"].as_str().unwrap().ends_with('.'), "{name}");
        // CloudFormation says nothing but the pattern otherwise.
        let is_explained = declared.get("ConstraintDescription").is_some();
        assert_eq!(declared.get("AllowedPattern").is_some(), is_explained, "{name}");
        // A range lets decimals through.
        assert!(declared["Type"] != "Number" || declared.get("AllowedValues").is_some(), "{name}");
        names.push(name);
    }
    names.sort_unstable();
    assert_eq!(grouped, names);
}

#[test]
fn two_origins_arrive_at_the_api_and_at_the_functions_as_two() {
    let two = ("AllowedOrigins", "https://a.example,http://localhost:5173");
    let cors = &only(&deployed(&[two]), HTTP_API)["Properties"]["CorsConfiguration"];
    assert_eq!(texts(&cors["AllowOrigins"]), ["https://a.example", "http://localhost:5173"]);
    // SAM replaces a reference to a parameter by its text, so the text must be split.
    let written = &only(&template(), HTTP_API)["Properties"]["CorsConfiguration"];
    let Value::Tagged(written) = written else { panic!("{written:?}") };
    assert_eq!(written.value[1]["AllowOrigins"], yaml("!Split [',', !Ref AllowedOrigins]"));
    let [login] = functions(&[two]).into_iter().filter(|it| it.name == "login").collect::<Vec<_>>().try_into().unwrap();
    let config = Config::parse(|name| login.variables.get(name).cloned()).unwrap();
    assert_eq!(config.transport.allowed_origins, ["https://a.example", "http://localhost:5173"]);
}

#[test]
fn mw5_the_example_starts_with_outputs_of_this_stack_and_shows_browsers_the_same_headers() {
    let (template, example) = (template(), read(EXAMPLE));
    let parameters = example["Parameters"].as_mapping().unwrap().iter();
    for (name, _) in parameters.filter(|(_, parameter)| parameter.get("Default").is_none()) {
        assert!(template["Outputs"].get(name).is_some(), "{name:?}");
    }
    let [(_, properties)] = lambdas(&example).try_into().unwrap();
    let variables = &properties["Environment"]["Variables"];
    // The example must also start with another algorithm, with cookies and with mail.
    let told = [
        ("JWT_ALGORITHM", "RS256"),
        ("REFRESH_TOKEN_TRANSPORT", "both"),
        ("ALLOWED_ORIGINS", "https://a.example"),
        ("MAIL_FROM", "no-reply@example.com"),
        ("REQUIRE_VERIFIED_EMAIL", "true"),
    ];
    let told = BTreeMap::from(told);
    let something = |name: &str| told.get(name).copied().unwrap_or("something").to_owned();
    let config = Config::parse(|name| variables.get(name).map(|_| something(name)));
    assert!(config.is_ok(), "{}", config.unwrap_err());
    for name in told.keys() {
        assert_eq!(variables[name], template["Globals"]["Function"]["Environment"]["Variables"][name], "{name}");
    }
    for name in ["JwtAlgorithm", "RefreshTokenTransport", "AllowedOrigins", "MailFrom", "RequireVerifiedEmail"] {
        for member in ["Type", "Default", "AllowedValues", "AllowedPattern", "ConstraintDescription", "MaxLength"] {
            let (ours, its) = (&template["Parameters"][name], &example["Parameters"][name]);
            assert_eq!(its.get(member), ours.get(member), "{member} of {name}");
        }
    }
    let rules = ["VerificationNeedsMail", "CookiesNeedOrigins"];
    assert!(rules.iter().all(|rule| example["Rules"][rule] == template["Rules"][rule]));
    let exposed = |deployed: &Value| {
        let cors = only(deployed, HTTP_API)["Properties"]["CorsConfiguration"].clone();
        let texts = |name: &str| texts(&cors[name]).into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert!(texts("AllowHeaders").contains(&"x-refresh-token".to_owned()));
        texts("ExposeHeaders")
    };
    let origins = ("AllowedOrigins", "https://a.example");
    assert_eq!(exposed(&beside(&[origins])), exposed(&deployed(&[origins])));
}

#[test]
fn re9_re10_the_example_of_an_authorizer_asks_it_as_it_answers_and_remembers_nothing_for_longer_than_a_token_lives() {
    let (template, example) = (template(), read(AUTHORIZER));
    for name in ["AuthorizerArn", "Issuer", "Audience"] {
        assert!(template["Outputs"].get(name).is_some(), "{name}");
        let said = example["Parameters"][name]["Description"].as_str().unwrap();
        assert!(said.starts_with(&format!("The output {name} of Freshkey's stack")), "{said}");
    }
    let default = |template: &Value, parameter: &str| template["Parameters"][parameter]["Default"].clone();
    assert_eq!(default(&example, "Audience"), default(&template, "JwtAudience"));
    // API Gateway fetches the keys from the issuer, so the parameter cannot have a default.
    assert_eq!(example["Parameters"]["Issuer"]["Default"], Value::Null);
    assert_eq!(example["Parameters"]["Issuer"]["AllowedPattern"], yaml("https://.+"));

    let api = &only(&example, HTTP_API)["Properties"];
    assert_eq!(api["FailOnWarnings"], yaml("true"), "a route whose issuer does not answer would be left out");
    let authorizers = &api["Auth"]["Authorizers"];
    let ours = &authorizers["Freshkey"];
    assert_eq!(ours["FunctionArn"], yaml("!Ref AuthorizerArn"));
    assert_eq!(ours["AuthorizerPayloadFormatVersion"].as_str(), Some("2.0"));
    assert_eq!(ours["EnableSimpleResponses"], yaml("true"));
    assert_eq!(ours["EnableFunctionDefaultPermissions"], yaml("true"));
    assert_eq!(ours["Identity"]["Headers"], yaml("[Authorization]"));
    let remembered = ours["Identity"]["ReauthorizeEvery"].as_u64().unwrap();
    let lifetime = 60 * default(&template, "JwtAccessTokenExpireMinutes").as_str().unwrap().parse::<u64>().unwrap();
    assert!(remembered <= lifetime, "{remembered} seconds, and a token lives for {lifetime}");
    let jwt = &authorizers["Jwt"];
    assert_eq!(jwt["JwtConfiguration"], yaml("{ issuer: !Ref Issuer, audience: [!Ref Audience] }"));
    assert_eq!(jwt["IdentitySource"].as_str(), Some("$request.header.Authorization"));

    // Each route is behind one of the two authorizers.
    let routes = api["DefinitionBody"]["paths"].as_mapping().unwrap();
    let routes = routes.iter().flat_map(|(_, methods)| methods.as_mapping().unwrap().iter());
    let guards: Vec<_> = routes.map(|(_, route)| route["security"].clone()).collect();
    assert_eq!(guards, [yaml("[{ Freshkey: [] }]"), yaml("[{ Jwt: [] }]")]);
}

#[test]
fn re16_no_jsonwebtoken_of_cve_2026_25537_is_built_or_would_be_let_in() {
    let read = |file: &str| std::fs::read_to_string(format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(read("deny.toml").contains(r#"{ name = "jsonwebtoken", version = "<10.3", "#));
    for lock in ["Cargo.lock", "examples/protected/Cargo.lock"] {
        let text = read(lock);
        let versions = text.split("name = \"jsonwebtoken\"\nversion = \"").skip(1);
        let versions: Vec<Vec<u64>> = versions
            .map(|rest| rest.split('"').next().unwrap().split('.').map(|part| part.parse().unwrap()).collect())
            .collect();
        assert!(
            !versions.is_empty() && versions.iter().all(|version| version[..] >= [10, 3][..]),
            "{lock}: {versions:?}"
        );
    }
}

#[test]
fn re4_mw8_a_handler_gives_up_before_lambda_does_and_lambda_before_api_gateway() {
    let template = template();
    let timeout = template["Globals"]["Function"]["Timeout"].as_u64().unwrap();
    assert!(DEADLINE.as_secs() < timeout && timeout < 30, "{timeout}");
    // Nobody waits for the mailer, which is called each minute.
    for (name, properties) in lambdas(&template) {
        let own = properties.get("Timeout").and_then(Value::as_u64);
        assert_eq!(own, (name == "mailer").then_some(60), "{name}");
    }
}

#[test]
fn er2_a_panic_unwinds_in_what_is_deployed() {
    for manifest in ["Cargo.toml", "examples/protected/Cargo.toml"] {
        let text = std::fs::read_to_string(format!("{}/../{manifest}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let release = text.split("[profile.release]").nth(1).unwrap().split("\n[").next().unwrap();
        assert!(release.contains("panic = \"unwind\""), "{manifest}: cargo-lambda would abort");
    }
}

#[test]
fn rl6_the_routes_are_throttled_and_functions_that_hash_can_be_kept_from_taking_every_slot() {
    let template = template();
    let api = only(&template, HTTP_API);
    let settings = &api["Properties"]["DefaultRouteSettings"];
    for limit in ["ThrottlingRateLimit", "ThrottlingBurstLimit"] {
        assert!(settings[limit].as_u64().is_some_and(|limit| limit > 0), "{limit}");
    }
    assert_eq!(template["Parameters"]["HashingConcurrency"]["Default"], "0");
    let reserved = yaml("!If [ReserveHashing, !Ref HashingConcurrency, !Ref AWS::NoValue]");
    for (name, properties) in lambdas(&template) {
        let hashes = properties.get("MemorySize").is_some();
        assert_eq!(hashes, ["register", "login", "account", "recovery", "email"].contains(&name.as_str()), "{name}");
        let expected = hashes.then_some(&reserved);
        assert_eq!(properties.get("ReservedConcurrentExecutions"), expected, "{name}");
    }
}

#[test]
fn re14_the_table_and_the_secret_outlive_the_stack_and_the_table_is_kept_well() {
    let template = deployed(&[]);
    let table = only(&template, "AWS::DynamoDB::Table");
    for resource in [&table, &only(&template, "AWS::SecretsManager::Secret")] {
        for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
            assert_eq!(resource[policy].as_str(), Some("Retain"), "{policy}");
        }
    }
    let table = &table["Properties"];
    assert_eq!(table["TimeToLiveSpecification"], yaml("{ AttributeName: expires_at, Enabled: true }"));
    assert_eq!(table["PointInTimeRecoverySpecification"], yaml("PointInTimeRecoveryEnabled: true"));
    // Without the property, the key is one of AWS's own and free.
    assert_eq!(table.get("SSESpecification"), None);
    assert_eq!(table["DeletionProtectionEnabled"], yaml("true"));
}

#[test]
fn re14_every_function_the_api_and_operators_log_to_a_group_that_forgets() {
    let template = template();
    let groups = resources(&template, "AWS::Logs::LogGroup");
    let functions = lambdas(&template);
    let logs = functions.iter().map(|(_, properties)| referred(&properties["LoggingConfig"]["LogGroup"]));
    let used: BTreeSet<_> = logs.chain(["ApiLogs", "OperatorLogs"].map(str::to_owned)).collect();
    assert_eq!(used.len(), functions.len() + 2);
    assert_eq!(used, groups.iter().map(|(name, _)| name.clone()).collect());
    for (name, group) in groups {
        assert_eq!(group["Properties"]["RetentionInDays"], yaml("!Ref LogRetentionDays"), "{name}");
    }
}

#[test]
fn headers_of_the_team_are_allowed_besides_those_of_freshkey() {
    let headers = |parameters: &[(&str, &str)]| {
        let cors = only(&deployed(parameters), HTTP_API)["Properties"]["CorsConfiguration"].clone();
        texts(&cors["AllowHeaders"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let origins = ("AllowedOrigins", "https://a.example");
    let own = headers(&[origins]);
    assert_eq!(own.len(), 7, "{own:?}");
    let more = headers(&[origins, ("ExtraCorsHeaders", "traceparent,tracestate")]);
    assert_eq!(more, [own, vec!["traceparent".into(), "tracestate".into()]].concat());
}

#[test]
fn the_dashboard_shows_metrics_that_exist_and_every_metric_of_freshkey() {
    assert!(resources(&deployed(&[]), "AWS::CloudWatch::Dashboard").is_empty());
    for (existing, table) in [(&[][..], "Table"), (&EXISTING, "restored")] {
        let dashboard = only(&deployed(&[&[("Dashboard", "true")], existing].concat()), "AWS::CloudWatch::Dashboard");
        let body = dashboard["Properties"]["DashboardBody"].as_str().unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let mut ours = BTreeSet::new();
        for widget in body["widgets"].as_array().unwrap() {
            let metrics = widget["properties"]["metrics"].as_array().unwrap();
            // A dot repeats the member of the line above.
            let mut line = Vec::new();
            for metric in metrics.iter().filter(|metric| metric[0].is_string() && metric[0] != "...") {
                let members = metric.as_array().unwrap().iter().filter_map(|member| member.as_str());
                let above = line.clone();
                line = members.enumerate().map(|(at, member)| if member == "." { above[at] } else { member }).collect();
                let [namespace, name, dimension, value] = line[..] else { panic!("{metric}") };
                match namespace {
                    NAMESPACE => {
                        ours.insert(name.to_owned());
                        assert_eq!((dimension, value), ("Table", table), "{name}");
                    }
                    "AWS/DynamoDB" => assert_eq!((dimension, value), ("TableName", table), "{name}"),
                    "AWS/ApiGateway" => assert_eq!((dimension, value), ("ApiId", "Api"), "{name}"),
                    other => panic!("{other}"),
                }
            }
        }
        let all = Metric::ALL.map(Metric::name).into_iter().chain(["HashTime", OLDEST_MAIL]);
        assert_eq!(ours, all.map(str::to_owned).collect());
    }
}

/// The name in a `!Ref`.
fn referred(value: &Value) -> String {
    let Value::Tagged(tagged) = value else { panic!("{value:?}") };
    assert!(tagged.tag == "Ref", "{value:?}");
    tagged.value.as_str().unwrap().to_owned()
}
