//! Asks AWS, the table and the issuer for the facts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{ContinuousBackupsDescription, TimeToLiveDescription, TimeToLiveStatus};
use aws_sdk_iam::types::{ContextEntry, ContextKeyTypeEnum, PolicyEvaluationDecisionType as Decision};
use aws_sdk_lambda::types::EnvironmentResponse;
use aws_sdk_sts::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_sts::primitives::{DateTime, DateTimeFormat};
use freshkey::store::Store;
use freshkey::{Clock, SystemClock};
use serde_json::Value;

use super::checks;
use super::facts::{
    Alarm, Asked, Deployment, Documents, Facts, Function, Lack, Reading, Secret, Sender, Table, Unasked,
};
use super::rights::{self, NEEDS, Need, On};
use crate::failure::{Failure, causes};
use crate::stack::Stack;

/// How long the issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most alarms that one call describes.
const MOST_ALARMS: usize = 100;

const NO_STACK: Unasked = Unasked::Skipped("there is no stack");
const NO_MAIL: Unasked = Unasked::Skipped("mail is off");
const NO_TABLE: Unasked = Unasked::Skipped("there is no table");

/// Asks about a table outside AWS.
pub async fn about_table(aws: &SdkConfig, table: &str, endpoint: &str) -> Facts {
    let store = Store::with_sdk(aws, table, Some(endpoint));
    let date = DateHeader::default();
    let sent = SystemClock.now().millis();
    let described = describe(&store, table, &date).await;
    Facts {
        clock: date.reading(sent).ok_or_else(|| match &described {
            Err(unasked) => unasked.clone(),
            Ok(_) => Unasked::Skipped("the table's answer has no date"),
        }),
        ttl: if_there(&described, ttl(&store, table)).await,
        table: described,
        deployment: Deployment {
            table: table.to_owned(),
            api: None,
            parameters: Default::default(),
            functions: Err(NO_STACK),
        },
        backups: Err(NO_STACK),
        secret: Err(NO_STACK),
        rights: Err(NO_STACK),
        documents: Err(NO_STACK),
        alarms: Err(NO_STACK),
        topics: Err(NO_STACK),
        sender: Err(NO_STACK),
    }
}

/// Asks about a stack, and about `table` instead of the stack's own if it is given.
///
/// # Errors
///
/// A [`Failure`] when the stack is not one of Freshkey.
pub async fn about_stack(
    aws: &SdkConfig,
    stack: &Stack,
    table: Option<&str>,
    clock: Asked<Reading>,
) -> Result<Facts, Failure> {
    let settings = stack.settings(table)?;
    let table = settings.get("TABLE_NAME").unwrap_or_default();
    let resources = resources(aws, &stack.name).await;
    let functions = if_known(&resources, async |resources| functions(aws, resources).await).await;
    let deployment = Deployment {
        table: table.to_owned(),
        api: stack.output("ApiUrl").map(str::to_owned),
        parameters: stack.variables().clone(),
        functions,
    };
    let secret_arn = deployment.setting("JWT_SECRET_ARN").or(stack.output("SecretArn"));
    let store = Store::with_sdk(aws, table, None);
    let described = describe(&store, table, &DateHeader::default()).await;
    let alarms = if_known(&resources, async |resources| alarms(aws, resources).await).await;
    Ok(Facts {
        clock,
        ttl: if_there(&described, ttl(&store, table)).await,
        backups: if_there(&described, backups(&store, table)).await,
        table: described,
        secret: match secret_arn {
            Some(arn) => secret(aws, arn).await,
            None => Err(Unasked::Skipped("no function names a secret")),
        },
        rights: rights_of(aws, &deployment, stack, secret_arn).await,
        documents: match deployment.setting("JWT_ISSUER") {
            Some(issuer) if checks::unfindable(issuer).is_none() => Ok(documents(issuer).await),
            _ => Err(Unasked::Skipped("the issuer is not one that others find")),
        },
        topics: if_known(&alarms, async |alarms| topics(aws, alarms).await).await,
        alarms,
        sender: match deployment.setting("MAIL_FROM") {
            Some(address) => sender(aws, address).await,
            None => Err(NO_MAIL),
        },
        deployment,
    })
}

/// Reads AWS's clock. Every answer has the time, also one that refuses the call.
pub async fn clock(aws: &SdkConfig) -> Asked<Reading> {
    let date = DateHeader::default();
    let sent = SystemClock.now().millis();
    let call = aws_sdk_sts::Client::new(aws).get_caller_identity();
    let answer = call.customize().interceptor(date.clone()).send().await;
    date.reading(sent).ok_or_else(|| match answer {
        Err(error) => failed("sts:GetCallerIdentity")(error),
        Ok(_) => Unasked::Failed("sts:GetCallerIdentity: the answer has no date".to_owned()),
    })
}

/// Keeps the time that an answer has (RFC 9110, section 6.6.1), and when it came.
#[derive(Clone, Debug, Default)]
struct DateHeader(Arc<Mutex<Option<(i64, i64)>>>);

impl DateHeader {
    fn reading(&self, sent: i64) -> Option<Reading> {
        let (there, answered) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(Reading { sent, answered, there })
    }
}

impl Intercept for DateHeader {
    fn name(&self) -> &'static str {
        "DateHeader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            let there = DateTime::from_str(date, DateTimeFormat::HttpDate)?.to_millis()?;
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((there, SystemClock.now().millis()));
        }
        Ok(())
    }
}

/// Returns why the call `action` failed.
fn failed<E, R>(action: &str) -> impl Fn(SdkError<E, R>) -> Unasked
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    move |error| Failure::of_call(action, &error).into()
}

/// Asks what another answer makes possible to ask.
async fn if_known<T, U>(known: &Asked<T>, question: impl AsyncFnOnce(&T) -> Asked<U>) -> Asked<U> {
    match known {
        Ok(known) => question(known).await,
        Err(unasked) => Err(unasked.clone()),
    }
}

/// Asks about the table, unless there is none.
async fn if_there<T>(table: &Asked<Option<Table>>, question: impl Future<Output = Asked<T>>) -> Asked<T> {
    match table {
        Ok(None) => Err(NO_TABLE),
        _ => question.await,
    }
}

async fn describe(store: &Store, table: &str, date: &DateHeader) -> Asked<Option<Table>> {
    let call = store.client().describe_table().table_name(table);
    let described = match call.customize().interceptor(date.clone()).send().await {
        Ok(answer) => answer.table,
        Err(error) if error.code() == Some("ResourceNotFoundException") => None,
        Err(error) => return Err(failed("dynamodb:DescribeTable")(error)),
    };
    Ok(described.map(|table| {
        let kind = |name: &str| {
            let attribute = table.attribute_definitions().iter().find(|one| one.attribute_name() == name);
            attribute.map_or("?", |attribute| attribute.attribute_type().as_str()).to_owned()
        };
        let keys = table.key_schema().iter();
        Table {
            keys: keys
                .map(|key| {
                    format!("{} {} {}", key.attribute_name(), key.key_type().as_str(), kind(key.attribute_name()))
                })
                .collect(),
            stream: table
                .stream_specification()
                .filter(|stream| stream.stream_enabled())
                .and_then(|stream| Some(stream.stream_view_type()?.as_str().to_owned())),
        }
    }))
}

async fn ttl(store: &Store, table: &str) -> Asked<Option<String>> {
    let answer = store.client().describe_time_to_live().table_name(table).send().await;
    let ttl = answer.map_err(failed("dynamodb:DescribeTimeToLive"))?.time_to_live_description;
    let is_on = |ttl: &TimeToLiveDescription| {
        matches!(ttl.time_to_live_status(), Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling))
    };
    Ok(ttl.filter(is_on).and_then(|ttl| ttl.attribute_name))
}

async fn backups(store: &Store, table: &str) -> Asked<bool> {
    let answer = store.client().describe_continuous_backups().table_name(table).send().await;
    let backups = answer.map_err(failed("dynamodb:DescribeContinuousBackups"))?.continuous_backups_description;
    let status = |backups: &ContinuousBackupsDescription| {
        let recovery = backups.point_in_time_recovery_description()?;
        Some(recovery.point_in_time_recovery_status()?.as_str() == "ENABLED")
    };
    Ok(backups.as_ref().and_then(status).unwrap_or_default())
}

/// A resource of the stack: its type, its name in the template, and its own name.
type Resource = (String, String, String);

async fn resources(aws: &SdkConfig, stack: &str) -> Asked<Vec<Resource>> {
    let call = aws_sdk_cloudformation::Client::new(aws).list_stack_resources().stack_name(stack);
    let listed = call.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
    let listed = listed.map_err(failed("cloudformation:ListStackResources"))?;
    let resource = |one: aws_sdk_cloudformation::types::StackResourceSummary| {
        Some((one.resource_type?, one.logical_resource_id?, one.physical_resource_id?))
    };
    Ok(listed.into_iter().filter_map(resource).collect())
}

async fn functions(aws: &SdkConfig, resources: &[Resource]) -> Asked<Vec<Function>> {
    let lambda = aws_sdk_lambda::Client::new(aws);
    let mut functions = Vec::new();
    for (kind, logical, physical) in resources {
        // `LoginFunction` in the template is the function `login`.
        let name = logical.strip_suffix("Function").unwrap_or_default().to_lowercase();
        if kind != "AWS::Lambda::Function" || !rights::is_ours(&name) {
            continue;
        }
        let answer = lambda.get_function_configuration().function_name(physical).send().await;
        let configuration = answer.map_err(failed("lambda:GetFunctionConfiguration"))?;
        let environment = configuration.environment.unwrap_or_else(|| EnvironmentResponse::builder().build());
        if let Some(fault) = environment.error() {
            let code = fault.error_code().unwrap_or("no code");
            return Err(Unasked::Failed(format!("lambda:GetFunctionConfiguration: {code}, for the environment")));
        }
        let role = configuration.role.unwrap_or_default();
        functions.push(Function { name, role, variables: environment.variables.unwrap_or_default() });
    }
    Ok(functions)
}

async fn secret(aws: &SdkConfig, arn: &str) -> Asked<Secret> {
    let answer = aws_sdk_secretsmanager::Client::new(aws).get_secret_value().secret_id(arn).send().await;
    let text = match answer {
        Ok(answer) => answer.secret_string.map(Into::into).ok_or_else(|| "holds no string".to_owned()),
        Err(error) => match error.code() {
            Some("ResourceNotFoundException") => Err("does not exist".to_owned()),
            // A secret that is to be deleted cannot be read.
            Some("InvalidRequestException") => Err("is scheduled for deletion".to_owned()),
            _ => return Err(failed("secretsmanager:GetSecretValue")(error)),
        },
    };
    Ok(Secret { arn: arn.to_owned(), text })
}

async fn rights_of(aws: &SdkConfig, deployment: &Deployment, stack: &Stack, secret: Option<&str>) -> Asked<Vec<Lack>> {
    let functions = deployment.functions.as_ref().map_err(Clone::clone)?;
    let sender = deployment.setting("MAIL_FROM");
    // The table that the functions use, also when another one is looked at.
    let table = stack.output("TableArn").ok_or(Unasked::Skipped("the stack has no output TableArn"))?;
    let iam = aws_sdk_iam::Client::new(aws);
    let mut lacks = Vec::new();
    for function in functions {
        for need in NEEDS.iter().filter(|need| need.function == function.name) {
            if need.only_with.is_some_and(|variable| deployment.setting(variable).is_none()) {
                continue;
            }
            let resource = match need.on {
                On::Table => table.to_owned(),
                On::Stream => format!("{table}/stream/x"),
                On::Secret => secret.unwrap_or_default().to_owned(),
                On::Sender => identity(table, sender.unwrap_or_default()),
            };
            let simulation = iam.simulate_principal_policy().policy_source_arn(&function.role);
            let simulation = simulation.resource_arns(&resource).set_context_entries(Some(context(need, sender)));
            let simulation = simulation.set_action_names(Some(need.actions.iter().map(ToString::to_string).collect()));
            let results = simulation.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
            let results = results.map_err(failed("iam:SimulatePrincipalPolicy"))?;
            for is_denied in [false, true] {
                let decision = if is_denied { Decision::ExplicitDeny } else { Decision::ImplicitDeny };
                let actions = results.iter().filter(|result| *result.eval_decision() == decision);
                let actions: Vec<_> = actions.map(|result| result.eval_action_name().to_owned()).collect();
                if !actions.is_empty() {
                    lacks.push(Lack {
                        function: function.name.clone(),
                        role: function.role.clone(),
                        actions,
                        resource: resource.clone(),
                        is_denied,
                    });
                }
            }
        }
    }
    Ok(lacks)
}

/// Returns the ARN of the identity in SES that an address belongs to, in the Region and
/// the account of the table.
fn identity(table: &str, address: &str) -> String {
    let place = table.replacen(":dynamodb:", ":ses:", 1);
    let place = place.split_once(":table/").map_or(place.as_str(), |(place, _)| place);
    format!("{place}:identity/{}", domain(address))
}

fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, domain)| domain)
}

/// Returns what a call of this kind says about itself: the keys of the items, or the
/// sender. A policy may have conditions on them.
fn context(need: &Need, sender: Option<&str>) -> Vec<ContextEntry> {
    let (key, values) = match need.on {
        // An item of any partition if the function changes them all.
        On::Table if need.prefixes.is_empty() => ("dynamodb:LeadingKeys", vec!["x".to_owned()]),
        On::Table => ("dynamodb:LeadingKeys", need.prefixes.iter().map(|prefix| format!("{prefix}x")).collect()),
        On::Sender => ("ses:FromAddress", sender.map(str::to_owned).into_iter().collect()),
        On::Stream | On::Secret => return Vec::new(),
    };
    let kind = if need.on == On::Table { ContextKeyTypeEnum::StringList } else { ContextKeyTypeEnum::String };
    let entry = ContextEntry::builder().context_key_name(key).context_key_type(kind);
    vec![entry.set_context_key_values(Some(values)).build()]
}

/// Asks for the two documents that others read to verify tokens.
async fn documents(issuer: &str) -> Documents {
    let configuration = document(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).await;
    let keys = match configuration.as_ref().ok().and_then(|document| document["jwks_uri"].as_str()) {
        Some(url) => document(url).await,
        None => Err("the configuration does not name the URL of the keys".to_owned()),
    };
    Documents { configuration, keys }
}

async fn document(url: &str) -> Result<Value, String> {
    let answer = async {
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        client.get(url).send().await?.error_for_status()?.json().await
    };
    answer.await.map_err(|error: reqwest::Error| causes(&error))
}

async fn alarms(aws: &SdkConfig, resources: &[Resource]) -> Asked<Vec<Alarm>> {
    let cloudwatch = aws_sdk_cloudwatch::Client::new(aws);
    let names = resources.iter().filter(|(kind, _, _)| kind == "AWS::CloudWatch::Alarm");
    let names: Vec<_> = names.map(|(_, _, name)| name.clone()).collect();
    let mut alarms = Vec::new();
    for names in names.chunks(MOST_ALARMS) {
        let call = cloudwatch.describe_alarms().set_alarm_names(Some(names.to_vec()));
        let answer = call.max_records(MOST_ALARMS as i32).send().await;
        let answer = answer.map_err(failed("cloudwatch:DescribeAlarms"))?;
        for name in names {
            let alarm = answer.metric_alarms().iter().find(|alarm| alarm.alarm_name() == Some(name));
            alarms.push(Alarm {
                name: name.clone(),
                actions: alarm.map(|alarm| alarm.alarm_actions().to_vec()),
                is_on: alarm.and_then(|alarm| alarm.actions_enabled()).unwrap_or_default(),
            });
        }
    }
    Ok(alarms)
}

async fn topics(aws: &SdkConfig, alarms: &[Alarm]) -> Asked<BTreeMap<String, Option<usize>>> {
    let sns = aws_sdk_sns::Client::new(aws);
    let actions: BTreeSet<_> = alarms.iter().filter_map(|alarm| alarm.actions.as_ref()).flatten().collect();
    let mut topics = BTreeMap::new();
    for topic in actions.into_iter().filter(|action| action.split(':').nth(2) == Some("sns")) {
        let call = sns.list_subscriptions_by_topic().topic_arn(topic);
        let confirmed = match call.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await {
            Ok(subscriptions) => {
                // Instead of an ARN, other subscriptions have a word such as `PendingConfirmation`.
                let arns = subscriptions.iter().filter_map(|subscription| subscription.subscription_arn());
                Some(arns.filter(|arn| arn.starts_with("arn:")).count())
            }
            Err(error) if error.code() == Some("NotFound") => None,
            Err(error) => return Err(failed("sns:ListSubscriptionsByTopic")(error)),
        };
        topics.insert(topic.clone(), confirmed);
    }
    Ok(topics)
}

async fn sender(aws: &SdkConfig, address: &str) -> Asked<Sender> {
    let ses = aws_sdk_sesv2::Client::new(aws);
    let account = ses.get_account().send().await.map_err(failed("ses:GetAccount"))?;
    let mut is_verified = false;
    // The address itself, its domain, and each domain above that but the last.
    let above = std::iter::successors(Some(domain(address)), |domain| Some(domain.split_once('.')?.1));
    for identity in [address].into_iter().chain(above.filter(|domain| domain.contains('.'))) {
        match ses.get_email_identity().email_identity(identity).send().await {
            Ok(answer) => is_verified |= answer.verified_for_sending_status(),
            Err(error) if error.code() == Some("NotFoundException") => {}
            Err(error) => return Err(failed("ses:GetEmailIdentity")(error)),
        }
    }
    Ok(Sender {
        is_verified,
        has_left_sandbox: account.production_access_enabled(),
        is_sending: account.sending_enabled(),
    })
}
