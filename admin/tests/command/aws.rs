//! CloudFormation, STS, CloudWatch Logs and Secrets Manager, as far as the command calls
//! them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::vault::Vault;
use crate::world::World;

/// The identity of the operator.
pub const PRINCIPAL: &str = "arn:aws:sts::111122223333:assumed-role/operator/olga";

/// The ARN of the stack's secret.
pub const SECRET_ARN: &str = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:Secret-x";

/// The ARN of the stack, as it is in a form.
const ARN: &str = "arn%3Aaws%3Acloudformation%3Aeu-central-1%3A111122223333%3Astack%2Fauth%2Fx";

/// What AWS has seen, and what it refuses.
#[derive(Default)]
pub struct Aws {
    /// The calls that are refused as not allowed, such as `PutLogEvents`.
    pub denied: BTreeSet<&'static str>,
    /// Whether CloudWatch Logs takes an event and rejects it.
    pub rejects_events: bool,
    /// The log streams that exist. The group of the stack `auth` exists, too.
    pub streams: BTreeSet<String>,
    /// The events: the group, and the message.
    pub events: Vec<(String, Value)>,
    /// The stack's JwtAlgorithm. Empty is the default.
    pub algorithm: &'static str,
    /// The secret of the stack.
    pub vault: Vault,
    /// The name of the table.
    table: String,
}

pub type Shared = Arc<Mutex<Aws>>;

/// Starts an AWS that has a stack with the table of `world`, and lets the command use it
/// instead of naming the table.
pub async fn aws(world: &mut World) -> Shared {
    let aws = Shared::new(Mutex::new(Aws { table: world.system.table_name().to_owned(), ..Aws::default() }));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = axum::serve(listener, Router::new().fallback(answer).with_state(aws.clone()));
    tokio::spawn(async move { server.await });
    let table = world.system.table_endpoint().to_owned();
    // The operator has a profile, which a function would not look for.
    let credentials = world.directory.path().join("credentials");
    let profile = "[operator]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = example\n";
    std::fs::write(&credentials, profile).unwrap();
    for (name, value) in [
        ("AWS_PROFILE", "operator"),
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_ENDPOINT_URL_DYNAMODB", &table),
    ] {
        world.variables.insert(name.into(), value.into());
    }
    world.target = vec!["--stack".into(), "auth".into()];
    aws
}

async fn answer(State(aws): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    if let Some(operation) = target.and_then(|target| target.strip_prefix("secretsmanager.")) {
        return secrets(&aws, operation, &serde_json::from_slice(&body).unwrap()).await;
    }
    let mut aws = aws.lock().unwrap();
    if let Some(operation) = target.and_then(|target| target.strip_prefix("Logs_20140328.")) {
        return logs(&mut aws, operation, &serde_json::from_slice(&body).unwrap());
    }
    let form = String::from_utf8(body.to_vec()).unwrap();
    let field = |name: &str| {
        let field = form.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        field.unwrap_or_default().to_owned()
    };
    let operation = field("Action");
    if aws.denied.contains(operation.as_str()) {
        return xml_error(StatusCode::FORBIDDEN, "AccessDenied", "not allowed");
    }
    match operation.as_str() {
        "DescribeStacks" if !["auth", ARN].contains(&field("StackName").as_str()) => {
            xml_error(StatusCode::BAD_REQUEST, "ValidationError", "Stack with id x does not exist")
        }
        "DescribeStacks" => stack(&aws).into_response(),
        "ListStackResources" => resources(&field("NextToken")).into_response(),
        "GetCallerIdentity" => format!(
            "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{PRINCIPAL}</Arn><Account>111122223333</Account>\
             <UserId>x</UserId></GetCallerIdentityResult></GetCallerIdentityResponse>"
        )
        .into_response(),
        other => panic!("{other}"),
    }
}

async fn secrets(aws: &Shared, operation: &str, body: &Value) -> Response {
    assert_eq!(body["SecretId"], SECRET_ARN);
    let (answer, gate) = {
        let mut aws = aws.lock().unwrap();
        let is_denied = aws.denied.contains(operation);
        let answer = if is_denied { Err("AccessDeniedException") } else { aws.vault.answer(operation, body) };
        (answer, aws.vault.gate.clone())
    };
    if let Some(gate) = gate.filter(|_| operation == "GetSecretValue") {
        gate.wait().await;
    }
    match answer {
        Ok(answer) => answer.to_string().into_response(),
        Err(code) => {
            let status = if code == "InternalServiceError" { 500 } else { 400 };
            (StatusCode::from_u16(status).unwrap(), json!({ "__type": code }).to_string()).into_response()
        }
    }
}

fn logs(aws: &mut Aws, operation: &str, body: &Value) -> Response {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let (group, stream) = (text("logGroupName"), format!("{}:{}", text("logGroupName"), text("logStreamName")));
    let error = |code: &str| (StatusCode::BAD_REQUEST, json!({ "__type": code }).to_string()).into_response();
    let done = |body: Value| body.to_string().into_response();
    match operation {
        denied if aws.denied.contains(denied) => error("AccessDeniedException"),
        "CreateLogStream" if group != "/freshkey/auth/operator" => error("ResourceNotFoundException"),
        "CreateLogStream" if !aws.streams.insert(stream.clone()) => error("ResourceAlreadyExistsException"),
        "CreateLogStream" => done(json!({})),
        "PutLogEvents" if !aws.streams.contains(&stream) => error("ResourceNotFoundException"),
        "PutLogEvents" if aws.rejects_events => {
            done(json!({ "rejectedLogEventsInfo": { "tooOldLogEventEndIndex": 1 } }))
        }
        "PutLogEvents" => {
            for event in body["logEvents"].as_array().unwrap() {
                let message = serde_json::from_str(event["message"].as_str().unwrap()).unwrap();
                aws.events.push((group.clone(), message));
            }
            done(json!({}))
        }
        "FilterLogEvents" => done(found(aws, body)),
        other => panic!("{other}"),
    }
}

/// The events of a group, two to a page. Each of the quoted terms must be in the event.
fn found(aws: &Aws, body: &Value) -> Value {
    let terms = body["filterPattern"].as_str().unwrap_or_default();
    let terms: Vec<_> = terms.split(' ').map(|term| term.trim_matches('"')).collect();
    let begin: usize = body["nextToken"].as_str().map_or(0, |token| token.parse().unwrap());
    let found = aws.events.iter().filter(|(group, _)| *group == body["logGroupName"]);
    let found = found.filter(|(_, event)| terms.iter().all(|term| event.to_string().contains(term)));
    let events: Vec<_> = found.skip(begin).take(2).map(|(_, event)| event).collect();
    let next = (events.len() == 2).then(|| (begin + 2).to_string());
    let events: Vec<_> =
        events.into_iter().map(|event| json!({ "message": event.to_string(), "timestamp": 1 })).collect();
    json!({ "events": events, "nextToken": next })
}

/// The resources of the stack, two to a page.
fn resources(page: &str) -> String {
    let page: usize = page.parse().unwrap_or_default();
    let all = [
        ("AWS::DynamoDB::Table", "auth-Table-1"),
        ("AWS::Logs::LogGroup", "/aws/vendedlogs/auth-api"),
        ("AWS::Logs::LogGroup", "/aws/lambda/auth-login"),
        ("AWS::Logs::LogGroup", "/aws/lambda/auth-refresh"),
        ("AWS::Logs::LogGroup", "/freshkey/auth/operator"),
    ];
    let resource = |(kind, id): &(&str, &str)| {
        format!(
            "<member><LogicalResourceId>x</LogicalResourceId><PhysicalResourceId>{id}</PhysicalResourceId>\
             <ResourceType>{kind}</ResourceType><ResourceStatus>CREATE_COMPLETE</ResourceStatus>\
             <LastUpdatedTimestamp>2026-11-26T00:00:00Z</LastUpdatedTimestamp></member>"
        )
    };
    let some: String = all.iter().skip(2 * page).take(2).map(resource).collect();
    let is_last = 2 * page + 2 >= all.len();
    let next = if is_last { String::new() } else { format!("<NextToken>{}</NextToken>", page + 1) };
    format!(
        "<ListStackResourcesResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\">\
         <ListStackResourcesResult><StackResourceSummaries>{some}</StackResourceSummaries>{next}\
         </ListStackResourcesResult></ListStackResourcesResponse>"
    )
}

fn stack(aws: &Aws) -> String {
    let member = |kind: &str, name: &str, value: &str| {
        format!("<member><{kind}Key>{name}</{kind}Key><{kind}Value>{value}</{kind}Value></member>")
    };
    let parameters = [
        ("MailFrom", "no-reply@example.com"),
        ("ResetUrl", "https://stack.example.com/reset"),
        ("DefaultRoles", "ROLE_OF_THE_STACK"),
        ("JwtIssuer", "https://auth.example.com"),
        ("JwtAudience", "freshkey"),
        ("AllowedOrigins", ""),
        ("TrustedProxySecret", "****"),
        ("JwtAlgorithm", aws.algorithm),
    ];
    let parameters: String = parameters.iter().map(|(name, value)| member("Parameter", name, value)).collect();
    let outputs = [("ApiUrl", "https://x.example"), ("TableName", &aws.table), ("SecretArn", SECRET_ARN)];
    let outputs: String = outputs.iter().map(|(name, value)| member("Output", name, value)).collect();
    format!(
        "<DescribeStacksResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\"><DescribeStacksResult>\
         <Stacks><member><StackName>auth</StackName><CreationTime>2026-11-26T00:00:00Z</CreationTime>\
         <StackStatus>CREATE_COMPLETE</StackStatus><Parameters>{parameters}</Parameters><Outputs>{outputs}</Outputs>\
         </member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
    )
}

fn xml_error(status: StatusCode, code: &str, message: &str) -> Response {
    let error = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>x</RequestId></ErrorResponse>"
    );
    (status, error).into_response()
}
