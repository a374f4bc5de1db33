//! What is wrong, and how to mend it, judged from the facts.

use std::collections::BTreeMap;
use std::fmt;

use freshkey::config::is_local;
use freshkey::token::{KeyError, KeyRing};
use serde_json::{Value, json};
use url::Url;

use super::facts::{
    Alarm, Asked, Deployment, Documents, Facts, Function, Lack, Reading, Secret, Sender, Table, Unasked,
};
use crate::stack::{DEFAULT_ISSUER, parameter};

/// The difference of the clocks that is not worth a word, in milliseconds.
const TOLERANCE: i64 = 5000;
/// The keys of the table.
const KEYS: [&str; 2] = ["pk HASH S", "sk RANGE S"];
/// The attribute by which items expire.
const TTL: &str = "expires_at";
/// What the stream carries.
const VIEW: &str = "KEYS_ONLY";
/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    pub outcome: Outcome,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Well,
    /// Something is wrong.
    Wrong(Fault),
    /// AWS does not answer or does not allow the question.
    Unknown(String),
    /// The check makes no sense here.
    Skipped(&'static str),
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub problem: String,
    /// How to mend it.
    pub mend: String,
}

impl Fault {
    fn new(problem: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { problem: problem.into(), mend: mend.into() }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("ok"),
            Self::Wrong(Fault { problem, mend }) => write!(f, "WRONG. {problem} To mend it: {mend}"),
            Self::Unknown(cause) => write!(f, "not checked: {cause}"),
            Self::Skipped(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

impl Finding {
    /// Returns the finding as an object. `ok` is null if nobody knows.
    pub fn json(&self) -> Value {
        let (ok, problem, mend) = match &self.outcome {
            Outcome::Well => (Some(true), None, None),
            Outcome::Wrong(Fault { problem, mend }) => (Some(false), Some(problem.clone()), Some(mend)),
            unknown => (None, Some(unknown.to_string()), None),
        };
        json!({ "check": self.check, "ok": ok, "problem": problem, "mend": mend })
    }

    /// Returns the finding in words.
    pub fn text(&self) -> String {
        format!("{}: {}", self.check, self.outcome)
    }
}

/// Judges all facts. A check has one finding, or one for each fault.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let deployment = &facts.deployment;
    let Deployment { table, functions, .. } = deployment;
    let stream = match &facts.table {
        Ok(Some(table)) if deployment.setting("MAIL_FROM").is_some() => Ok(table),
        Ok(Some(_)) => Err(match functions {
            Err(skipped @ Unasked::Skipped(_)) => skipped.clone(),
            _ => Unasked::Skipped("mail is off"),
        }),
        Ok(None) => Err(Unasked::Skipped("there is no table")),
        Err(unasked) => Err(unasked.clone()),
    };
    let ring = facts.secret.as_ref().map_err(Clone::clone).and_then(|secret| parsed(deployment, secret));
    let held = ring.as_ref().ok().and_then(|ring| ring.as_ref().ok());
    let issuer = deployment.setting("JWT_ISSUER").ok_or(Unasked::Skipped("there is no stack"));
    let alarms = match &facts.alarms {
        Ok(alarms) if alarms.is_empty() => Err(Unasked::Skipped("the stack has no alarms")),
        alarms => alarms.as_deref().map_err(Clone::clone),
    };
    let topics = alarms.clone().and(facts.topics.as_ref().map_err(Clone::clone));
    [
        judge("clock", &facts.clock, clock),
        judge("configuration", functions, |functions| configuration(deployment, functions)),
        judge("origins", functions, |functions| origins(deployment, functions)),
        judge("table-keys", &facts.table, |described| keys(table, described.as_ref())),
        judge("table-ttl", &facts.ttl, |attribute| ttl(table, attribute.as_deref())),
        judge("table-backups", &facts.backups, |are_on| backups(table, *are_on)),
        judge("table-stream", &stream, |described| self::stream(deployment, described)),
        judge("secret", &facts.secret, secret),
        judge("ring", &ring, |ring| self::ring(deployment, ring.as_ref().err())),
        judge("rights", &facts.rights, |lacks| lacks.iter().map(right).collect()),
        judge("issuer", &issuer, |given| self::issuer(deployment, given)),
        judge("published-keys", &facts.documents, |documents| published(deployment, documents, held)),
        judge("alarms", &alarms, |alarms| self::alarms(alarms)),
        judge("alarm-topics", &topics, |topics| self::topics(topics)),
        judge("mail", &facts.sender, |sender| self::sender(deployment, sender)),
    ]
    .concat()
}

/// Returns the findings of one check.
pub fn judge<T>(check: &'static str, fact: &Asked<T>, faults: impl FnOnce(&T) -> Vec<Fault>) -> Vec<Finding> {
    let outcomes = match fact {
        Ok(fact) => faults(fact).into_iter().map(Outcome::Wrong).collect(),
        Err(Unasked::Skipped(reason)) => vec![Outcome::Skipped(reason)],
        Err(Unasked::Failed(cause)) => vec![Outcome::Unknown(cause.clone())],
    };
    let outcomes = if outcomes.is_empty() { vec![Outcome::Well] } else { outcomes };
    outcomes.into_iter().map(|outcome| Finding { check, outcome }).collect()
}

/// Judges the clock of this machine. What an operator does expires by it.
pub fn clock(reading: &Reading) -> Vec<Fault> {
    let Reading { sent, answered, there } = *reading;
    // The time there was at least `there`, less than a second more, and between the two.
    let (ahead, behind) = (sent - (there + 1000), there - answered);
    let (difference, word) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    if difference <= TOLERANCE {
        return Vec::new();
    }
    let problem = format!("The clock of this machine is {} seconds {word} that of AWS.", difference / 1000);
    let mend = "let it follow the network's time: `sudo timedatectl set-ntp true` on Linux, `sudo sntp -sS \
                time.apple.com` on macOS.";
    vec![Fault::new(problem, mend)]
}

/// Returns each fault of the settings with the functions that have it.
fn faults_of(functions: &[Function]) -> BTreeMap<String, Vec<&str>> {
    let mut faults: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for function in functions {
        for fault in function.parse().err().iter().flat_map(|error| error.faults()) {
            faults.entry(fault.clone()).or_default().push(&function.name);
        }
    }
    faults
}

fn configuration(deployment: &Deployment, functions: &[Function]) -> Vec<Fault> {
    let faults = faults_of(functions).into_iter().filter(|(fault, _)| !fault.starts_with("ALLOWED_ORIGINS"));
    let fault = |(fault, functions): (String, Vec<&str>)| {
        let variable = fault.split(' ').next().unwrap_or_default();
        Fault::new(format!("{}: {fault}.", functions.join(", ")), deployment.set(variable, "…"))
    };
    faults.map(fault).collect()
}

fn origins(deployment: &Deployment, functions: &[Function]) -> Vec<Fault> {
    let mend = deployment.set("ALLOWED_ORIGINS", "https://app.example.com");
    let faults = faults_of(functions).into_keys().filter(|fault| fault.starts_with("ALLOWED_ORIGINS"));
    let faults: Vec<_> = faults.map(|fault| Fault::new(format!("{fault}."), mend.clone())).collect();
    if !faults.is_empty() {
        return faults;
    }
    let origins = deployment.setting("ALLOWED_ORIGINS").unwrap_or_default().split(',').map(str::trim);
    let open = origins.filter(|origin| Url::parse(origin).is_ok_and(|url| url.scheme() == "http" && !is_local(&url)));
    let problem = |origin| {
        format!("ALLOWED_ORIGINS has {origin}, which is not https: anybody on the network can change its pages.")
    };
    open.map(|origin| Fault::new(problem(origin), mend.clone())).collect()
}

impl Deployment {
    /// Returns how to set a variable: by a parameter of the stack, or in the template.
    fn set(&self, variable: &str, value: &str) -> String {
        if self.parameters.contains_key(variable) {
            let parameter = parameter(variable);
            format!("`sam deploy --parameter-overrides {parameter}={value}`, with your other parameters.")
        } else {
            format!("set {variable} in template.yaml, then `sam build && sam deploy`.")
        }
    }
}

fn keys(name: &str, table: Option<&Table>) -> Vec<Fault> {
    let create = "`aws dynamodb create-table --billing-mode PAY_PER_REQUEST --attribute-definitions \
                  AttributeName=pk,AttributeType=S AttributeName=sk,AttributeType=S --key-schema \
                  AttributeName=pk,KeyType=HASH AttributeName=sk,KeyType=RANGE --table-name NAME`";
    match table {
        None => vec![Fault::new(
            format!("There is no table {name} in this account and Region."),
            format!("restore it from a backup, or create one: {}.", create.replace("NAME", name)),
        )],
        Some(table) if table.keys == KEYS => Vec::new(),
        Some(table) => vec![Fault::new(
            format!("The keys of {name} are {}, and must be {}.", table.keys.join(", "), KEYS.join(", ")),
            format!(
                "the keys of a table do not change, so use another: {create}, then `sam deploy --parameter-overrides \
                 ExistingTable=NAME`, with your other parameters."
            ),
        )],
    }
}

fn ttl(table: &str, attribute: Option<&str>) -> Vec<Fault> {
    let update = |enabled, attribute| {
        format!(
            "`aws dynamodb update-time-to-live --table-name {table} --time-to-live-specification \
             Enabled={enabled},AttributeName={attribute}`"
        )
    };
    match attribute {
        Some(TTL) => Vec::new(),
        Some(other) => vec![Fault::new(
            format!("Items expire by {other}, not by {TTL}."),
            format!("{}, and after an hour {}.", update(false, other), update(true, TTL)),
        )],
        None => vec![Fault::new(
            "TTL is off, so sessions and counters that have expired stay.",
            format!("{}.", update(true, TTL)),
        )],
    }
}

fn backups(table: &str, are_on: bool) -> Vec<Fault> {
    if are_on {
        return Vec::new();
    }
    let mend = format!(
        "`aws dynamodb update-continuous-backups --table-name {table} --point-in-time-recovery-specification \
         PointInTimeRecoveryEnabled=true`."
    );
    vec![Fault::new("Point-in-time recovery is off, so the table cannot be set back to an earlier minute.", mend)]
}

fn stream(deployment: &Deployment, described: &Table) -> Vec<Fault> {
    let table = &deployment.table;
    let update = format!("aws dynamodb update-table --table-name {table} --stream-specification");
    let on = format!("`{update} StreamEnabled=true,StreamViewType={VIEW}`");
    let wake = if deployment.setting("EXISTING_TABLE").is_some() {
        format!(
            "`sam deploy --parameter-overrides ExistingTableStreamArn=$(aws dynamodb describe-table --table-name {table} \
             --query Table.LatestStreamArn --output text)`, with your other parameters."
        )
    } else {
        "let it wake the mailer: `aws lambda create-event-source-mapping`, as MailerStream in template.yaml has it."
            .into()
    };
    match described.stream.as_deref() {
        Some(VIEW) => Vec::new(),
        Some(other) => vec![Fault::new(
            format!("The stream carries {other}, and must carry {VIEW}, so that no item leaves the table."),
            format!("`{update} StreamEnabled=false`, then {on}, then {wake}"),
        )],
        None => vec![Fault::new(
            "The table has no stream, so a mail waits for up to a minute.",
            format!("{on}, then {wake}"),
        )],
    }
}

/// Returns the keys of a secret, or what is wrong with them.
fn parsed(deployment: &Deployment, secret: &Secret) -> Asked<Result<KeyRing, KeyError>> {
    let text = secret.text.as_ref().map_err(|_| Unasked::Skipped("the secret cannot be read"))?;
    match (KeyRing::parse(text), deployment.algorithm()) {
        (Err(KeyError::Shape), _) => Err(Unasked::Skipped("the secret is not a flat JSON object")),
        (Ok(ring), Some(algorithm)) => Ok(ring.for_algorithm(algorithm)),
        (ring, _) => Ok(ring),
    }
}

/// Returns how to change a secret.
fn put(arn: &str) -> String {
    format!("`aws secretsmanager put-secret-value --secret-id {arn} --secret-string file://secret.json`")
}

fn secret(secret: &Secret) -> Vec<Fault> {
    let arn = &secret.arn;
    match &secret.text {
        Err(problem) => vec![Fault::new(
            format!("The secret {arn} {problem}."),
            format!("`aws secretsmanager restore-secret --secret-id {arn}`, or give it its keys again: {}.", put(arn)),
        )],
        Ok(text) => match KeyRing::parse(text) {
            Err(fault @ KeyError::Shape) => vec![Fault::new(
                format!("The secret {fault}."),
                format!(
                    "write it as such an object, with the keys of the version before (`aws secretsmanager \
                     get-secret-value --version-stage AWSPREVIOUS --secret-id {arn}`): {}.",
                    put(arn)
                ),
            )],
            _ => Vec::new(),
        },
    }
}

fn ring(deployment: &Deployment, fault: Option<&KeyError>) -> Vec<Fault> {
    let Some(fault) = fault else { return Vec::new() };
    let put = put(deployment.setting("JWT_SECRET_ARN").unwrap_or("SECRET"));
    let mend = match fault {
        KeyError::Algorithm { expected, .. } => format!(
            "`freshkey keys add {expected:?}`, then `freshkey keys use` with the name that it prints; or {}",
            deployment.set("JWT_ALGORITHM", "…")
        ),
        KeyError::Missing(role) => format!("let \"{role}\" be the name of a key in the secret: {put}."),
        KeyError::RefreshKey => format!("let \"refresh\" be the name of a random secret: {put}."),
        KeyError::Name(_) => format!("give the key another name: {put}."),
        KeyError::Key { name, .. } => format!("replace the key \"{name}\" in the secret: {put}."),
        _ => format!("correct the secret: {put}."),
    };
    let subject =
        if matches!(fault, KeyError::Algorithm { .. }) { "The key that \"signing\" names" } else { "In the secret," };
    vec![Fault::new(format!("{subject} {fault}."), mend)]
}

fn right(lack: &Lack) -> Fault {
    let Lack { function, role, actions, resource, is_denied } = lack;
    let list = actions.join(", ");
    let problem = format!("The function {function} may not do {list} on {resource}.");
    let name = role.rsplit('/').next().unwrap_or(role);
    if *is_denied {
        let mend = format!("remove the statement that denies it, in the policies of the role {name} or above it.");
        return Fault::new(problem, mend);
    }
    let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": resource });
    let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
    let mend = format!(
        "`aws iam put-role-policy --role-name {name} --policy-name freshkey-{function} --policy-document '{policy}'`."
    );
    Fault::new(problem, mend)
}

/// Returns why nobody can find keys at an issuer, if so.
pub fn unfindable(issuer: &str) -> Option<String> {
    let is_secure = Url::parse(issuer).is_ok_and(|url| url.scheme() == "https" || is_local(&url));
    if issuer == DEFAULT_ISSUER {
        Some(format!("JWT_ISSUER is {issuer}, as in the template, and nobody finds the keys there."))
    } else if !is_secure {
        Some(format!("JWT_ISSUER is {issuer}, and must be an https URL for others to find the keys."))
    } else {
        None
    }
}

impl Deployment {
    fn set_issuer(&self) -> String {
        let api = self.api.as_deref().unwrap_or("https://api.example.com");
        format!("{} It signs everyone out.", self.set("JWT_ISSUER", api))
    }
}

fn issuer(deployment: &Deployment, given: &str) -> Vec<Fault> {
    unfindable(given).map(|problem| Fault::new(problem, deployment.set_issuer())).into_iter().collect()
}

fn published(deployment: &Deployment, documents: &Documents, held: Option<&KeyRing>) -> Vec<Fault> {
    let given = deployment.setting("JWT_ISSUER").unwrap_or_default();
    let problem = match (&documents.configuration, &documents.keys) {
        (Err(cause), _) => format!("{given}/.well-known/openid-configuration does not answer: {cause}."),
        (Ok(document), _) if document["issuer"] != given => {
            format!("What answers at {given} has the issuer {}.", document["issuer"])
        }
        (_, Err(cause)) => format!("The keys below {given} do not answer: {cause}."),
        (_, Ok(keys)) => {
            let Some(expected) = held.map(|ring| json!(ring.public())) else { return Vec::new() };
            let (published, expected) = (names(keys), names(&expected));
            if published == expected {
                return Vec::new();
            }
            let problem =
                format!("The keys below {given} are {published:?}, and those of the secret are {expected:?}.");
            let mend = "wait five minutes if the secret has just changed. Otherwise look for errors in the log of the \
                        function keys.";
            return vec![Fault::new(problem, mend)];
        }
    };
    vec![Fault::new(problem, deployment.set_issuer())]
}

/// Returns the names of the keys in a JWK set.
fn names(keys: &Value) -> Vec<&str> {
    let mut names: Vec<_> =
        keys["keys"].as_array().into_iter().flatten().filter_map(|key| key["kid"].as_str()).collect();
    names.sort_unstable();
    names
}

fn alarms(alarms: &[Alarm]) -> Vec<Fault> {
    let listed = |is_meant: fn(&Alarm) -> bool| {
        let names = alarms.iter().filter(|alarm| is_meant(alarm)).map(|alarm| alarm.name.as_str());
        Some(names.collect::<Vec<_>>()).filter(|names| !names.is_empty())
    };
    let mut faults = Vec::new();
    if let Some(names) = listed(|alarm| alarm.actions.is_none()) {
        faults.push(Fault::new(
            format!("There is no alarm {} any more.", names.join(", ")),
            "create it as template.yaml has it: `aws cloudwatch put-metric-alarm`.",
        ));
    }
    if let Some(names) = listed(|alarm| alarm.actions.as_ref().is_some_and(Vec::is_empty)) {
        faults.push(Fault::new(
            format!("These alarms notify nobody: {}.", names.join(", ")),
            "`sam deploy --parameter-overrides AlarmEmail=you@example.com`, or AlarmTopicArn= with the ARN of a topic of \
             yours, with your other parameters.",
        ));
    }
    if let Some(names) = listed(|alarm| alarm.actions.as_ref().is_some_and(|list| !list.is_empty()) && !alarm.is_on) {
        faults.push(Fault::new(
            format!("The actions of these alarms are off: {}.", names.join(", ")),
            format!("`aws cloudwatch enable-alarm-actions --alarm-names {}`.", names.join(" ")),
        ));
    }
    faults
}

fn topics(topics: &BTreeMap<String, Option<usize>>) -> Vec<Fault> {
    let fault = |(topic, confirmed): (&String, &Option<usize>)| match confirmed {
        None => Some(Fault::new(
            format!("There is no topic {topic}, which alarms notify."),
            "create it with `aws sns create-topic`, or `sam deploy --parameter-overrides AlarmTopicArn=` with the ARN of \
             another and your other parameters.",
        )),
        Some(0) => Some(Fault::new(
            format!("The topic {topic} has no confirmed subscription, so alarms reach nobody."),
            format!(
                "`aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint you@example.com`, and \
                 follow the link in the mail that SNS sends."
            ),
        )),
        Some(_) => None,
    };
    topics.iter().filter_map(fault).collect()
}

fn sender(deployment: &Deployment, sender: &Sender) -> Vec<Fault> {
    let address = deployment.setting("MAIL_FROM").unwrap_or_default();
    let domain = address.rsplit_once('@').map_or(address, |(_, domain)| domain);
    let mut faults = Vec::new();
    if !sender.is_verified {
        faults.push(Fault::new(
            format!("SES has verified neither {address} nor its domain in this Region."),
            format!(
                "`aws sesv2 create-email-identity --email-identity {domain}`, then its DNS records: see docs/mail.md."
            ),
        ));
    }
    if !sender.has_left_sandbox {
        faults.push(Fault::new(
            "SES is in its sandbox, and sends to verified addresses alone.",
            "`aws sesv2 put-account-details --production-access-enabled`, with what docs/mail.md lists.",
        ));
    }
    if !sender.is_sending {
        faults.push(Fault::new(
            "SES has paused sending for this account.",
            "read the notice at `aws sesv2 get-account`, and answer it in the support center.",
        ));
    }
    faults
}
