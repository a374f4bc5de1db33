//! A stack of Freshkey in an AWS that this process plays: what `doctor` asks about.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_sdk_sts::primitives::{DateTime, DateTimeFormat};
use aws_smithy_cbor::Encoder;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use freshkey::{Clock, SystemClock};
use local::TEMPLATE;
use local::template::Template;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::aws::aws;
use crate::world::{World, world_over};

/// The ARN of the secret.
pub const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:Secret-a1b2c3";
/// The topic of the alarms.
pub const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:alarms";
const KEY: &str = "q0M8dPZr1tXv7yBnL3cFhJ5kWg2sRa6eUoT9";

/// The stack.
pub struct Deployed {
    /// The calls that are refused as not allowed, such as `GetFunctionConfiguration`.
    pub denied: BTreeSet<&'static str>,
    /// By how many seconds the clock of AWS is ahead of this machine's.
    pub ahead: i64,
    /// The parameters.
    pub parameters: BTreeMap<String, String>,
    /// The variables of each function.
    pub functions: BTreeMap<String, BTreeMap<String, String>>,
    /// What no statement allows a function: its name, and the action.
    pub forbidden: BTreeSet<(&'static str, &'static str)>,
    /// Whether a statement denies it.
    pub explicitly: bool,
    /// What was asked about rights: the function, the resource, and the context.
    pub simulated: BTreeSet<(String, String, String)>,
    /// The text of the secret.
    pub secret: String,
    /// Whether point-in-time recovery is on.
    pub backups: bool,
    /// The actions of each alarm.
    pub alarms: BTreeMap<String, Vec<String>>,
    /// The subscriptions of the topic.
    pub subscriptions: Vec<String>,
    /// The identities that SES has verified.
    pub verified: BTreeSet<String>,
    /// Whether SES has left the sandbox.
    pub production: bool,
    /// The name of the table, and the URL of its DynamoDB.
    pub table: (String, String),
}

/// The stack, as a test and the server see it.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Deployed>>);

impl Shared {
    pub fn get(&self) -> MutexGuard<'_, Deployed> {
        self.0.lock().unwrap()
    }
}

/// A stack in which nothing is wrong, with mail on.
pub async fn deployed() -> (World, Shared) {
    let api = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let issuer = format!("http://{}", api.local_addr().unwrap());
    let mut world = world_over(Arc::new(SystemClock), &[("JWT_ISSUER", &issuer)], None).await;
    tokio::spawn(Arc::clone(&world.system).serve(api, pending()));
    aws(&mut world).await;
    world.variables.retain(|name, _| name.starts_with("AWS_"));

    let parameters = [
        ("MailFrom", "no-reply@auth.example.com"),
        ("ResetUrl", "https://app.example.com/reset"),
        ("ConfirmUrl", "https://app.example.com/confirm"),
        ("JwtIssuer", &issuer),
        ("JwtAlgorithm", "HS256"),
        ("AllowedOrigins", "https://app.example.com"),
        ("AlarmTopicArn", TOPIC),
        ("TrustedProxySecret", "****"),
    ];
    let functions = Template::read(Path::new(TEMPLATE), &parameters[..7]).unwrap().functions.into_iter();
    let functions = functions.map(|function| {
        let mut variables = function.variables;
        variables.insert("TABLE_NAME".into(), world.system.table_name().into());
        variables.insert("JWT_SECRET_ARN".into(), SECRET.into());
        (function.name, variables)
    });
    let shared = Shared(Arc::new(Mutex::new(Deployed {
        denied: BTreeSet::new(),
        ahead: 0,
        parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        functions: functions.collect(),
        forbidden: BTreeSet::new(),
        explicitly: false,
        simulated: BTreeSet::new(),
        secret: json!({ "signing": "k1", "refresh": "k1", "k1": KEY }).to_string(),
        backups: true,
        alarms: ["auth-reuse", "auth-secret"].map(|name| (name.to_owned(), vec![TOPIC.to_owned()])).into(),
        subscriptions: vec![format!("{TOPIC}:7d1a")],
        verified: ["example.com".to_owned()].into(),
        production: true,
        table: (world.system.table_name().to_owned(), world.system.table_endpoint().to_owned()),
    })));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = axum::serve(listener, Router::new().fallback(answer).with_state(shared.clone()));
    tokio::spawn(async move { server.await });
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"] {
        world.variables.insert(name.into(), url.clone());
    }
    let stream = json!({
        "TableName": world.system.table_name(),
        "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "KEYS_ONLY" },
    });
    dynamodb(&shared, "UpdateTable", &stream).await;
    (world, shared)
}

/// Calls DynamoDB as an operator would with the AWS CLI.
pub async fn dynamodb(deployed: &Shared, operation: &str, body: &Value) {
    let url = deployed.get().table.1.clone();
    let answer = forward(&url, &format!("DynamoDB_20120810.{operation}"), body.to_string().into()).await;
    let status = answer.status();
    let text = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{operation}: {text:?}");
}

async fn forward(url: &str, target: &str, body: Bytes) -> Response {
    let credential = "AWS4-HMAC-SHA256 Credential=local/20261126/local/dynamodb/aws4_request, SignedHeaders=host, \
                      Signature=0";
    let request = reqwest::Client::new().post(url).header("x-amz-target", target).header("authorization", credential);
    let request = request.header("x-amz-date", "20261126T000000Z");
    let answer = request.header("content-type", "application/x-amz-json-1.0").body(body).send().await.unwrap();
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap();
    (status, answer.bytes().await.unwrap()).into_response()
}

/// Answers, and says what time it is in AWS.
async fn answer(State(shared): State<Shared>, headers: HeaderMap, uri: Uri, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").map(|target| target.to_str().unwrap().to_owned()).unwrap_or_default();
    let ahead = shared.get().ahead;
    let table = shared.get().table.1.clone();
    let is_known = ["DynamoDB_20120810.DescribeContinuousBackups"].contains(&target.as_str());
    let mut answer = if target.starts_with("DynamoDB_") && !is_known && !shared.get().denies(&target) {
        forward(&table, &target, body).await
    } else {
        let form = String::from_utf8(body.to_vec()).unwrap_or_default();
        shared.get().answer(&target, uri.path(), &form)
    };
    let there = DateTime::from_secs(SystemClock.now().seconds() + ahead).fmt(DateTimeFormat::HttpDate).unwrap();
    answer.headers_mut().insert("date", there.parse().unwrap());
    answer
}

impl Deployed {
    fn denies(&self, target: &str) -> bool {
        self.denied.iter().any(|denied| target.ends_with(&format!(".{denied}")))
    }

    fn answer(&mut self, target: &str, path: &str, form: &str) -> Response {
        let parts: Vec<_> = path.split('/').collect();
        let denied = json!({ "__type": "AccessDeniedException", "message": "no" });
        let json = |operation: &str, body: Value| match self.denied.contains(operation) {
            true => (StatusCode::BAD_REQUEST, denied.to_string()).into_response(),
            false => body.to_string().into_response(),
        };
        match (target.rsplit('.').next().unwrap(), parts.as_slice()) {
            (operation @ "DescribeContinuousBackups", _) => {
                let status = if self.backups { "ENABLED" } else { "DISABLED" };
                json(
                    operation,
                    json!({ "ContinuousBackupsDescription": {
                    "ContinuousBackupsStatus": "ENABLED",
                    "PointInTimeRecoveryDescription": { "PointInTimeRecoveryStatus": status },
                } }),
                )
            }
            (operation @ "GetSecretValue", _) => {
                json(operation, json!({ "ARN": SECRET, "Name": "Secret", "SecretString": self.secret }))
            }
            (operation, _) if !operation.is_empty() => json(operation, Value::Null),
            (_, ["", "2015-03-31", "functions", name, "configuration"]) => {
                let name = name.strip_prefix("auth-").unwrap();
                json(
                    "GetFunctionConfiguration",
                    json!({
                        "Role": format!("arn:aws:iam::111122223333:role/{name}-role"),
                        "Environment": { "Variables": self.functions[name] },
                    }),
                )
            }
            (_, ["", "v2", "email", "account"]) => {
                json("GetAccount", json!({ "ProductionAccessEnabled": self.production, "SendingEnabled": true }))
            }
            (_, ["", "v2", "email", "identities", identity]) => {
                if self.verified.contains(&identity.replace("%40", "@")) {
                    return json("GetEmailIdentity", json!({ "VerifiedForSendingStatus": true }));
                }
                let missing = json!({ "__type": "NotFoundException", "message": "no" });
                (StatusCode::NOT_FOUND, missing.to_string()).into_response()
            }
            (_, ["", "service", _, "operation", "DescribeAlarms"]) => {
                let (status, body) = if self.denied.contains("DescribeAlarms") {
                    (StatusCode::BAD_REQUEST, denied)
                } else {
                    (
                        StatusCode::OK,
                        json!({ "MetricAlarms": self.alarms.iter().map(|(name, actions)| {
                        json!({ "AlarmName": name, "ActionsEnabled": true, "AlarmActions": actions })
                    }).collect::<Vec<_>>() }),
                    )
                };
                let mut encoder = Encoder::new(Vec::new());
                cbor(&mut encoder, &body);
                (status, [("smithy-protocol", "rpc-v2-cbor")], encoder.into_writer()).into_response()
            }
            _ => self.query(form),
        }
    }

    /// Answers a call of the AWS Query protocol.
    fn query(&mut self, form: &str) -> Response {
        let fields: Vec<_> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        let field =
            |name: &str| fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value).to_owned();
        let action = field("Action");
        if self.denied.contains(action.as_str()) {
            let error = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>\
                         <RequestId>x</RequestId></ErrorResponse>";
            return (StatusCode::FORBIDDEN, error).into_response();
        }
        let result = match action.as_str() {
            "GetCallerIdentity" => "<Arn>arn:aws:iam::111122223333:user/olga</Arn>".to_owned(),
            "DescribeStacks" => self.stack(),
            "ListStackResources" => {
                let functions = self.functions.keys().map(|name| {
                    let logical = format!("{}{}Function", name[..1].to_uppercase(), &name[1..]);
                    resource("AWS::Lambda::Function", &logical, &format!("auth-{name}"))
                });
                let alarms = self.alarms.keys().map(|name| resource("AWS::CloudWatch::Alarm", name, name));
                let others =
                    [resource("AWS::Lambda::Function", "OwnFunction", "own"), resource("AWS::SNS::Topic", "T", "t")];
                let resources: String = functions.chain(alarms).chain(others).collect();
                format!("<StackResourceSummaries>{resources}</StackResourceSummaries>")
            }
            "SimulatePrincipalPolicy" => {
                let function = field("PolicySourceArn");
                let function = function.rsplit('/').next().unwrap().strip_suffix("-role").unwrap();
                let context = fields.iter().filter(|(name, _)| name.starts_with("ContextEntries.member."));
                let context = context.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ");
                self.simulated.insert((function.to_owned(), field("ResourceArns.member.1"), context));
                let actions = fields.iter().filter(|(name, _)| name.starts_with("ActionNames.member."));
                let results: String = actions.map(|(_, action)| {
                    let is_forbidden = self.forbidden.contains(&(function, action.as_str()));
                    let decision = match (is_forbidden, self.explicitly) {
                        (false, _) => "allowed",
                        (true, false) => "implicitDeny",
                        (true, true) => "explicitDeny",
                    };
                    format!(
                        "<member><EvalActionName>{action}</EvalActionName><EvalDecision>{decision}</EvalDecision></member>"
                    )
                }).collect();
                format!("<EvaluationResults>{results}</EvaluationResults><IsTruncated>false</IsTruncated>")
            }
            "ListSubscriptionsByTopic" => {
                assert_eq!(field("TopicArn"), TOPIC);
                let arns = self
                    .subscriptions
                    .iter()
                    .map(|arn| format!("<member><SubscriptionArn>{arn}</SubscriptionArn></member>"));
                format!("<Subscriptions>{}</Subscriptions>", arns.collect::<String>())
            }
            other => panic!("{other:?}"),
        };
        format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>").into_response()
    }

    fn stack(&self) -> String {
        let member = |kind: &str, name: &str, value: &str| {
            format!("<member><{kind}Key>{name}</{kind}Key><{kind}Value>{value}</{kind}Value></member>")
        };
        let parameters: String = self.parameters.iter().map(|(name, value)| member("Parameter", name, value)).collect();
        let arn = format!("arn:aws:dynamodb:eu-central-1:111122223333:table/{}", self.table.0);
        let api = self.parameters["JwtIssuer"].as_str();
        let outputs = [("ApiUrl", api), ("TableName", &self.table.0), ("TableArn", &arn), ("SecretArn", SECRET)];
        let outputs: String = outputs.iter().map(|(name, value)| member("Output", name, value)).collect();
        format!(
            "<Stacks><member><StackName>auth</StackName><CreationTime>2026-11-26T00:00:00Z</CreationTime>\
             <StackStatus>CREATE_COMPLETE</StackStatus><Parameters>{parameters}</Parameters><Outputs>{outputs}</Outputs>\
             </member></Stacks>"
        )
    }
}

fn resource(kind: &str, logical: &str, physical: &str) -> String {
    format!(
        "<member><ResourceType>{kind}</ResourceType><LogicalResourceId>{logical}</LogicalResourceId>\
         <PhysicalResourceId>{physical}</PhysicalResourceId><ResourceStatus>CREATE_COMPLETE</ResourceStatus>\
         <LastUpdatedTimestamp>2026-11-26T00:00:00Z</LastUpdatedTimestamp></member>"
    )
}

/// Writes JSON as CBOR, which CloudWatch speaks.
fn cbor(encoder: &mut Encoder, value: &Value) {
    match value {
        Value::Object(members) => {
            encoder.map(members.len());
            for (name, value) in members {
                encoder.str(name);
                cbor(encoder, value);
            }
        }
        Value::Array(values) => {
            encoder.array(values.len());
            values.iter().for_each(|value| cbor(encoder, value));
        }
        Value::String(text) => drop(encoder.str(text)),
        Value::Bool(is) => drop(encoder.boolean(*is)),
        other => panic!("{other}"),
    }
}
