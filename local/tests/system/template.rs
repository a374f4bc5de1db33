//! `template.yaml` agrees with the code: its routes, permissions and variables are
//! those of the functions.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use freshkey::config::{Config, MailerConfig};
use freshkey::function::DEADLINE;
use freshkey::id::UserId;
use http::{Method, StatusCode};
use lambda_runtime::Context;
use local::TEMPLATE;
use local::template::{Function, Route, Template};
use serde_json::json;
use serde_norway::Value;

use crate::wire::{Call, Fate};
use crate::world::{EMAIL, PASSWORD, PATIENT, Reply, User, World, claims, signed_up_with, world_with};

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
fn statements(properties: &Value, with_mail: bool) -> Vec<Value> {
    let policies = properties["Policies"].as_sequence().unwrap().iter();
    let statements = policies.filter_map(|policy| policy.get("Statement")?.as_sequence()).flatten();
    statements.filter_map(|statement| if_mail(statement, with_mail)).collect()
}

/// A value, or what it is with or without mail if that decides.
fn if_mail(value: &Value, with_mail: bool) -> Option<Value> {
    let Value::Tagged(tagged) = value else { return Some(value.clone()) };
    assert!(tagged.tag == "If" && tagged.value[0] == "HasMail" && tagged.value[2] == yaml("!Ref AWS::NoValue"));
    with_mail.then(|| tagged.value[1].clone())
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
/// the newest mail to an address.
async fn mailed(seen: &mut Actions, world: &World, to: &str) -> String {
    world.wire.take();
    world.system.deliver_mail().await.unwrap();
    note(seen, "mailer", world);
    let mails = world.system.mailbox().mails();
    let mail = mails.iter().find(|mail| mail.to == to && mail.text.contains("#token=")).unwrap();
    let token = mail.text.split_once("#token=").unwrap().1;
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
async fn walk(with_mail: bool) -> Actions {
    let mut seen = Actions::new();
    let mail = if with_mail { &MAIL_VARIABLES[..] } else { &[] };
    let variables = [&[SECRET, ("CHECK_SESSION_ON_EVERY_CALL", "true"), ("MAX_SESSIONS", "2")], mail].concat();
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
    let token = mailed(seen, world, address).await;
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
    let token = mailed(seen, world, "mallory@example.com").await;
    let reset = json!({ "token": token, "new_password": "another river under nine bridges" });
    let reset = world.post("/api/v1/auth/password/reset", reset);
    watch(seen, "recovery", world, reset).await.expect(StatusCode::NO_CONTENT);
    world.system.deliver_mail().await;
    note(seen, "mailer", world);
}

#[tokio::test]
async fn re14_ml20_each_function_may_do_to_the_table_what_it_does_and_no_more() {
    let [(_, example)] = lambdas(&read(EXAMPLE)).try_into().unwrap();
    let functions: BTreeMap<_, _> = lambdas(&template()).into_iter().chain([(LAYER.to_owned(), example)]).collect();
    for with_mail in [false, true] {
        let seen = walk(with_mail).await;
        let deployed = functions.iter().filter(|(name, _)| with_mail || !BEHIND_MAIL.contains(&name.as_str()));
        let deployed: BTreeMap<_, _> = deployed.collect();
        assert!(seen.keys().eq(deployed.keys().copied()), "{:?}", seen.keys());
        for (name, properties) in deployed {
            let rights: Vec<_> = statements(properties, with_mail).iter().map(Right::of).collect();
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
    let secret = yaml("AWSSecretsManagerGetSecretValuePolicy: { SecretArn: !Ref Secret }");
    for (name, properties) in lambdas(&template()) {
        let policies = properties["Policies"].as_sequence().unwrap();
        let has_secret = !["recovery", "mailer"].contains(&name.as_str());
        assert_eq!(policies.iter().filter(|policy| **policy == secret).count(), usize::from(has_secret), "{name}");
        let own = policies.iter().filter(|policy| policy.get("Statement").is_some()).count();
        assert_eq!(own, usize::from(name != "keys"), "{name}");
        assert_eq!(policies.len(), own + usize::from(has_secret), "{name}");
        for statement in statements(&properties, true) {
            assert_eq!(statement["Effect"].as_str(), Some("Allow"), "{name}");
            let actions = texts(&statement["Action"]);
            assert!(actions.iter().all(|action| !action.contains('*')), "{name}: {actions:?}");
            if statement["Resource"] == yaml("!GetAtt Table.Arn") {
                assert!(
                    actions.iter().all(|action| action.starts_with("dynamodb:") && !is_of_stream(action)),
                    "{name}: {actions:?}"
                );
                continue;
            }
            assert_eq!(name, "mailer", "{statement:?}");
            if actions == ["ses:SendEmail"] {
                assert_eq!(statement["Condition"], yaml("StringEquals: { ses:FromAddress: !Ref MailFrom }"));
                // An identity may have a default configuration set, which SES checks too.
                let resources = ["identity", "configuration-set"].map(|kind| {
                    yaml(&format!("!Sub arn:${{AWS::Partition}}:ses:${{AWS::Region}}:${{AWS::AccountId}}:{kind}/*"))
                });
                assert_eq!(statement["Resource"], Value::Sequence(resources.to_vec()));
            } else {
                assert!(actions.iter().all(|action| is_of_stream(action)), "{actions:?}");
                assert_eq!(statement["Resource"], yaml("!Sub ${Table.Arn}/stream/*"));
            }
        }
    }
}

#[test]
fn ml20_what_mail_needs_exists_with_mail_alone_and_the_stream_has_nothing_but_keys() {
    let template = template();
    for (name, resource) in template["Resources"].as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        let is_of_mail =
            ["Recovery", "Email", "Mailer", "OldestMail", "MailsRefused"].iter().any(|part| name.starts_with(part));
        let condition = resource.get("Condition").and_then(Value::as_str);
        assert_eq!(condition, is_of_mail.then_some("HasMail"), "{name}");
    }
    let stream = &only(&template, "AWS::DynamoDB::Table")["Properties"]["StreamSpecification"];
    assert_eq!(if_mail(stream, true), Some(yaml("StreamViewType: KEYS_ONLY")));
    assert_eq!(if_mail(stream, false), None);
    assert!(functions(&[]).iter().all(|function| !BEHIND_MAIL.contains(&function.name.as_str())));
}

#[test]
fn ml14_mail_that_waits_or_is_refused_has_an_alarm() {
    let template = template();
    for (name, statistic, threshold) in [("OldestMailSeconds", "Maximum", 300), ("MailsRefused", "Sum", 10)] {
        let alarms =
            resources(&template, "AWS::CloudWatch::Alarm").into_iter().map(|(_, alarm)| alarm["Properties"].clone());
        let [alarm] = alarms.filter(|alarm| alarm["MetricName"] == name).collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(alarm["Namespace"], freshkey::metrics::NAMESPACE, "{name}");
        assert_eq!(alarm["Dimensions"], yaml("[{ Name: Table, Value: !Ref Table }]"), "{name}");
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
        assert!(read.remove(PATIENT.0), "the variable for tests alone");
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

/// Checks that every function starts with these parameters.
fn functions_start_with(parameters: &[(&str, &str)]) {
    for function in functions(parameters) {
        let lookup = |name: &str| function.variables.get(name).cloned();
        Config::parse(lookup).unwrap_or_else(|fault| panic!("{parameters:?}: {fault}"));
        if function.name == "mailer" {
            MailerConfig::parse(lookup).unwrap_or_else(|fault| panic!("{parameters:?}: {fault}"));
        }
    }
}

#[test]
fn every_parameter_that_the_template_allows_is_one_that_the_functions_start_with() {
    let template = template();
    let shown = |value: &Value| serde_norway::to_string(value).unwrap().trim().trim_matches('\'').to_owned();
    for (name, parameter) in template["Parameters"].as_mapping().unwrap() {
        let listed = parameter.get("AllowedValues").and_then(Value::as_sequence).into_iter().flatten();
        let bounds = ["MinValue", "MaxValue"].into_iter().filter_map(|bound| parameter.get(bound));
        // Parameters with a pattern have a test of their own.
        let lengths = ["MinLength", "MaxLength"].into_iter().filter_map(|bound| parameter.get(bound)?.as_u64());
        let lengths = lengths.filter(|_| parameter.get("AllowedPattern").is_none());
        let longest = lengths.map(|length| "x".repeat(length as usize));
        for value in listed.chain(bounds).map(shown).chain(longest) {
            // Cookies need an origin, and what is about mail needs mail.
            let needs = [("AllowedOrigins", "https://a.example")].into_iter().chain(MAIL);
            functions_start_with(&[(name.as_str().unwrap(), &*value)].into_iter().chain(needs).collect::<Vec<_>>());
        }
    }
}

/// Whether the template takes a value of a parameter, as far as its pattern and its
/// length decide.
fn takes(parameter: &str, value: &str) -> bool {
    let parameter = &template()["Parameters"][parameter];
    let pattern = parameter["AllowedPattern"].as_str().unwrap();
    let longest = parameter.get("MaxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let schema = json!({ "type": "string", "pattern": format!("^({pattern})$"), "maxLength": longest });
    jsonschema::validator_for(&schema).unwrap().is_valid(&json!(value))
}

#[test]
fn an_address_a_name_or_a_link_that_the_template_allows_is_one_that_the_functions_start_with() {
    let (long, accents) = ("x".repeat(45), "\u{e9}".repeat(22));
    let path = format!("https://app.example.com/{}", "x".repeat(232));
    for (parameters, good, bad) in [
        (
            &["MailFrom", "ReplyTo"][..],
            &["a@example.com", "No.Reply+x@a-b.example.co", "a!#$%&'*+/=?^_`{|}~-@example.com"][..],
            &["a@b", "a@localhost", ".a@example.com", "a..b@example.com", "a@-b.com", "a@b.com1", "A <a@b.com>"][..],
        ),
        (
            &["AppName"],
            &["Acme", "X", "Ben & Jerry's", "Caf\u{e9} \u{dc}nal", &long, &accents],
            &[" a", "a ", "<b>", "a\"b", "a\nb", "\u{6f22}", "a\u{e9}xxxxxxxxxxxxxxxxxxxxxxx"],
        ),
        (
            &["ResetUrl", "ConfirmUrl"],
            &[
                "https://app.example.com/reset",
                "https://app.example.com:8443/?view=reset&x=%20y",
                "http://localhost:3000/?view=reset",
                "http://127.0.0.1/",
                &path,
            ],
            &[
                "http://app.example.com/",
                "https://app.example.com/#x",
                "https://app.example.com:70000/",
                "https://ada@app.example.com/",
                "https://1.2.3.4.5/",
                "https://a..example/",
                "ftp://app.example.com/",
                "https:///reset",
                "/reset",
            ],
        ),
    ] {
        for parameter in parameters {
            assert!(takes(parameter, ""), "{parameter} can be left out");
            for value in good {
                assert!(takes(parameter, value), "{parameter} {value}");
                let others = MAIL.into_iter().filter(|(name, _)| name != parameter);
                functions_start_with(&[(*parameter, *value)].into_iter().chain(others).collect::<Vec<_>>());
            }
            for value in bad {
                assert!(!takes(parameter, value), "{parameter} {value:?}");
            }
        }
    }
}

#[test]
fn what_mail_needs_is_asked_for_before_anything_is_deployed() {
    let template = template();
    let is_set = |parameter: &str| yaml(&format!("!Not [!Equals [!Ref {parameter}, '']]"));
    let rules = template["Rules"].as_mapping().unwrap().iter().map(|(_, rule)| rule);
    let needs: Vec<_> = rules
        .map(|rule| {
            let assertions = rule["Assertions"].as_sequence().unwrap().iter();
            (rule["RuleCondition"].clone(), assertions.map(|assertion| assertion["Assert"].clone()).collect::<Vec<_>>())
        })
        .collect();
    let is_true = |parameter: &str| yaml(&format!("!Equals [!Ref {parameter}, 'true']"));
    let expected = [
        (is_set("MailFrom"), vec![is_set("ResetUrl"), is_set("ConfirmUrl")]),
        (is_true("RequireVerifiedEmail"), vec![is_set("MailFrom")]),
        (is_true("NotifyNewDevice"), vec![is_set("MailFrom")]),
    ];
    assert_eq!(needs, expected);
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
        for member in ["Type", "Default", "AllowedValues", "AllowedPattern", "MaxLength"] {
            let (ours, its) = (&template["Parameters"][name], &example["Parameters"][name]);
            assert_eq!(its.get(member), ours.get(member), "{member} of {name}");
        }
    }
    let exposed = |template: &Value| {
        let cors = only(template, HTTP_API)["Properties"]["CorsConfiguration"].clone();
        let texts = |name: &str| texts(&cors[1][name]).into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert!(texts("AllowHeaders").contains(&"x-refresh-token".to_owned()));
        texts("ExposeHeaders")
    };
    assert_eq!(exposed(&example), exposed(&template));
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
    let lifetime = 60 * default(&template, "JwtAccessTokenExpireMinutes").as_u64().unwrap();
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
    assert_eq!(template["Parameters"]["HashingConcurrency"]["Default"].as_u64(), Some(0));
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
    let template = template();
    let table = only(&template, "AWS::DynamoDB::Table");
    for resource in [&table, &only(&template, "AWS::SecretsManager::Secret")] {
        for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
            assert_eq!(resource[policy].as_str(), Some("Retain"), "{policy}");
        }
    }
    let table = &table["Properties"];
    assert_eq!(table["TimeToLiveSpecification"], yaml("{ AttributeName: expires_at, Enabled: true }"));
    assert_eq!(table["PointInTimeRecoverySpecification"], yaml("PointInTimeRecoveryEnabled: true"));
    assert_eq!(table["SSESpecification"], yaml("SSEEnabled: true"));
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

/// The name in a `!Ref`.
fn referred(value: &Value) -> String {
    let Value::Tagged(tagged) = value else { panic!("{value:?}") };
    assert!(tagged.tag == "Ref", "{value:?}");
    tagged.value.as_str().unwrap().to_owned()
}
