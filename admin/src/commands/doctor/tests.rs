//! Every planted fault, judged from facts alone; and the rights, held to the template.

use std::collections::{BTreeSet, HashMap};

use freshkey::token::KeyRing;
use serde_json::json;
use serde_norway::Value as Yaml;

use super::checks::{Fault, Finding, Outcome, clock, examine};
use super::facts::{
    Alarm, Asked, Deployment, Documents, Facts, Function, Lack, Reading, Secret, Sender, Table, Unasked,
};
use super::rights::{NEEDS, On, STREAM};
use super::verdict;

const KEY: &str = "q0M8dPZr1tXv7yBnL3cFhJ5kWg2sRa6eUoT9";
const ISSUER: &str = "https://auth.example.com";

/// A stack in which nothing is wrong.
fn facts() -> Facts {
    let variables = [
        ("TABLE_NAME", "Table"),
        ("JWT_SECRET_ARN", "arn:secret"),
        ("JWT_ISSUER", ISSUER),
        ("JWT_AUDIENCE", "freshkey"),
        ("ALLOWED_ORIGINS", "https://app.example.com"),
        ("MAIL_FROM", "no-reply@example.com"),
    ];
    let variables: HashMap<_, _> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let functions = ["login", "keys"].map(|name| Function {
        name: name.into(),
        role: format!("arn:aws:iam::111122223333:role/{name}"),
        variables: variables.clone(),
    });
    Facts {
        deployment: Deployment {
            table: "Table".into(),
            api: Some(ISSUER.into()),
            parameters: variables,
            functions: Ok(functions.to_vec()),
        },
        clock: Ok(Reading { sent: 10_500, answered: 10_600, there: 10_000 }),
        table: Ok(Some(Table {
            keys: vec!["pk HASH S".into(), "sk RANGE S".into()],
            stream: Some("KEYS_ONLY".into()),
        })),
        ttl: Ok(Some("expires_at".into())),
        backups: Ok(true),
        secret: secret(&json!({ "signing": "k1", "refresh": "k1", "k1": KEY }).to_string()),
        rights: Ok(vec![]),
        documents: Ok(Documents {
            configuration: Ok(json!({ "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/.well-known/jwks.json") })),
            keys: Ok(json!({ "keys": [] })),
        }),
        alarms: Ok(vec![Alarm { name: "reuse".into(), actions: Some(vec!["arn:topic".into()]), is_on: true }]),
        topics: Ok([("arn:topic".to_owned(), Some(1))].into()),
        sender: Ok(Sender { is_verified: true, has_left_sandbox: true, is_sending: true }),
    }
}

fn secret(text: &str) -> Asked<Secret> {
    Ok(Secret { arn: "arn:secret".into(), text: Ok(text.into()) })
}

/// The faults that are found, each with the name of its check.
fn faults(facts: &Facts) -> Vec<(&'static str, Fault)> {
    let wrong = |finding: Finding| match finding.outcome {
        Outcome::Wrong(fault) => Some((finding.check, fault)),
        _ => None,
    };
    examine(facts).into_iter().filter_map(wrong).collect()
}

/// Sets a variable of every function.
fn set(facts: &mut Facts, name: &str, value: &str) {
    for function in facts.deployment.functions.as_mut().unwrap() {
        function.variables.insert(name.into(), value.into());
    }
}

fn lack(function: &str, action: &str) -> Asked<Vec<Lack>> {
    let role = format!("arn:aws:iam::111122223333:role/{function}");
    let (actions, resource) = (vec![action.into()], "arn:table".into());
    Ok(vec![Lack { function: function.into(), role, actions, resource, is_denied: false }])
}

#[test]
fn op1_nothing_is_wrong_where_all_is_well() {
    let findings = examine(&facts());
    assert!(findings.iter().all(|finding| finding.outcome == Outcome::Well), "{findings:?}");
    assert!(verdict(&findings).is_ok());
}

#[test]
fn op1_each_of_twelve_planted_faults_is_found_alone_and_has_its_mend() {
    type Plant = fn(&mut Facts);
    let planted: [(&str, &str, Plant); 12] = [
        ("table-keys", "aws dynamodb create-table", |facts| {
            facts.table = Ok(Some(Table { keys: vec!["id HASH S".into()], stream: Some("KEYS_ONLY".into()) }));
        }),
        ("table-ttl", "aws dynamodb update-time-to-live --table-name Table", |facts| facts.ttl = Ok(None)),
        ("secret", "aws secretsmanager put-secret-value --secret-id arn:secret", |facts| facts.secret = secret("k1")),
        ("ring", "replace the key \"k1\" in the secret", |facts| {
            facts.secret = secret(r#"{"signing":"k1","refresh":"k1","k1":"changeme"}"#);
        }),
        ("ring", "let \"signing\" be the name of a key in the secret", |facts| {
            facts.secret = secret(&json!({ "signing": "k2", "refresh": "k1", "k1": KEY }).to_string());
        }),
        ("clock", "timedatectl set-ntp true", |facts| {
            facts.clock = Ok(Reading { sent: 70_500, answered: 70_600, there: 10_000 });
        }),
        ("rights", "aws iam put-role-policy --role-name login", |facts| {
            facts.rights = lack("login", "dynamodb:GetItem");
        }),
        ("rights", "secretsmanager:GetSecretValue", |facts| {
            facts.rights = lack("keys", "secretsmanager:GetSecretValue");
        }),
        ("origins", "AllowedOrigins=https://app.example.com", |facts| {
            set(facts, "ALLOWED_ORIGINS", "https://app.example.com/");
        }),
        ("issuer", "JwtIssuer=https://auth.example.com", |facts| {
            set(facts, "JWT_ISSUER", "https://freshkey.example");
            facts.documents = Err(Unasked::Skipped("nobody is asked at such an issuer"));
        }),
        ("table-backups", "PointInTimeRecoveryEnabled=true", |facts| facts.backups = Ok(false)),
        ("alarms", "AlarmEmail=", |facts| facts.alarms.as_mut().unwrap()[0].actions = Some(vec![])),
    ];
    for (check, mend, plant) in planted {
        let mut facts = facts();
        plant(&mut facts);
        let found = faults(&facts);
        assert!(found.len() == 1 && found[0].0 == check && found[0].1.mend.contains(mend), "{check}: {found:?}");
        assert!(verdict(&examine(&facts)).is_err());
    }
}

#[test]
fn op1_what_else_may_be_wrong_is_found_too() {
    type Plant = fn(&mut Facts);
    let planted: [(&str, &str, Plant); 12] = [
        ("table-keys", "There is no table Table", |facts| facts.table = Ok(None)),
        ("table-ttl", "Items expire by ttl", |facts| facts.ttl = Ok(Some("ttl".into()))),
        ("table-stream", "The table has no stream", |facts| {
            facts.table.as_mut().unwrap().as_mut().unwrap().stream = None
        }),
        ("secret", "is scheduled for deletion", |facts| {
            facts.secret.as_mut().unwrap().text = Err("is scheduled for deletion".into());
        }),
        ("ring", "\"refresh\" must name a random secret", |facts| {
            let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/src/token/testdata/p256.pem");
            let pem = std::fs::read_to_string(pem).unwrap();
            facts.secret = secret(&json!({ "signing": "k1", "refresh": "k2", "k1": KEY, "k2": pem }).to_string());
        }),
        ("ring", "is for HS256, and JWT_ALGORITHM is RS256", |facts| set(facts, "JWT_ALGORITHM", "RS256")),
        ("rights", "The function login may not do dynamodb:Query", |facts| {
            facts.rights = lack("login", "dynamodb:Query");
            facts.rights.as_mut().unwrap()[0].is_denied = true;
        }),
        ("issuer", "must be an https URL", |facts| set(facts, "JWT_ISSUER", "auth.example.com")),
        ("alarms", "There is no alarm reuse any more", |facts| facts.alarms.as_mut().unwrap()[0].actions = None),
        ("alarms", "The actions of these alarms are off: reuse", |facts| {
            facts.alarms.as_mut().unwrap()[0].is_on = false
        }),
        ("alarm-topics", "There is no topic arn:topic", |facts| {
            facts.topics = Ok([("arn:topic".to_owned(), None)].into());
        }),
        ("mail", "SES has paused sending", |facts| facts.sender.as_mut().unwrap().is_sending = false),
    ];
    for (check, problem, plant) in planted {
        let mut facts = facts();
        plant(&mut facts);
        facts.documents = Err(Unasked::Skipped("nobody is asked"));
        let found = faults(&facts);
        assert!(found.len() == 1 && found[0].0 == check && found[0].1.problem.contains(problem), "{check}: {found:?}");
        assert!(!found[0].1.mend.is_empty());
    }
}

#[test]
fn op1_the_clock_is_judged_by_what_an_answer_proves() {
    let at = |sent, answered, there| clock(&Reading { sent, answered, there }).len();
    // The time in an answer is up to a second old when it is sent.
    assert_eq!((at(6_000, 6_000, 0), at(6_001, 6_001, 0)), (0, 1));
    assert_eq!((at(0, 0, 5_000), at(0, 0, 5_001)), (0, 1));
    // A slow answer proves little.
    assert_eq!((at(0, 60_000, 0), at(0, 60_000, 60_000), at(0, 60_000, 65_001)), (0, 0, 1));
}

#[test]
fn op1_the_published_keys_must_be_those_of_the_secret() {
    let pem = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/src/token/testdata/p256.pem"));
    let text = json!({ "signing": "k2", "refresh": "k1", "k1": KEY, "k2": pem.unwrap() }).to_string();
    let mut facts = facts();
    facts.secret = secret(&text);
    set(&mut facts, "JWT_ALGORITHM", "ES256");
    assert_eq!(faults(&facts)[0].0, "published-keys");
    let published = json!(KeyRing::parse(&text.into()).unwrap().public());
    facts.documents.as_mut().unwrap().keys = Ok(published);
    assert_eq!(faults(&facts), []);
    facts.documents.as_mut().unwrap().configuration = Ok(json!({ "issuer": "https://other.example.com" }));
    assert!(faults(&facts)[0].1.problem.contains("has the issuer \"https://other.example.com\""));
}

#[test]
fn a_fault_is_said_before_what_is_not_known() {
    let mut facts = facts();
    facts.rights = Err(Unasked::Failed("iam:SimulatePrincipalPolicy: AccessDenied".into()));
    let json = |facts: &Facts| verdict(&examine(facts)).unwrap_err().json();
    let unknown = json!({ "error": "not_checked", "message": "iam:SimulatePrincipalPolicy: AccessDenied" });
    assert_eq!(json(&facts), unknown);
    facts.backups = Ok(false);
    assert_eq!(json(&facts)["error"], "unhealthy");
}

/// A right, with the names of actions and prefixes in order.
type Right = (String, Option<&'static str>, On, BTreeSet<String>, BTreeSet<String>);

/// The texts of a value that is one text or a list of them.
fn texts(value: &Yaml) -> BTreeSet<String> {
    let list = value.as_sequence().map_or(std::slice::from_ref(value), Vec::as_slice);
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What a statement of the template allows a function, unless it is about tracing or
/// something else that is not checked.
fn right(function: &str, statement: &Yaml) -> Option<Right> {
    let (only_with, statement) = match statement {
        Yaml::Tagged(tagged) => {
            let variable = match tagged.value[0].as_str().unwrap() {
                "HasMail" => Some("MAIL_FROM"),
                "AcceptsImportedTokens" => Some("IMPORTED_TOKENS_UNTIL"),
                _ => None,
            };
            (variable, &tagged.value[1])
        }
        statement => (None, statement),
    };
    let actions = texts(&statement["Action"]);
    let first = actions.first().unwrap();
    let on = match first.split(':').next().unwrap() {
        "dynamodb" if STREAM.contains(&first.as_str()) => On::Stream,
        "dynamodb" => On::Table,
        "ses" => On::Sender,
        _ => return None,
    };
    let keys = statement.get("Condition").and_then(|condition| condition.get("ForAllValues:StringLike"));
    let keys = keys.map(|like| texts(&like["dynamodb:LeadingKeys"])).unwrap_or_default();
    let prefixes = keys.iter().map(|key| key.strip_suffix('*').unwrap().to_owned()).collect();
    Some((function.to_owned(), only_with, on, actions, prefixes))
}

#[test]
fn re14_op1_the_rights_that_are_checked_are_those_of_the_template() {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml")).unwrap();
    let template: Yaml = serde_norway::from_str(&template).unwrap();
    let mut allowed = BTreeSet::new();
    for (_, resource) in template["Resources"].as_mapping().unwrap() {
        let Some(code) = resource["Properties"].get("CodeUri").and_then(Yaml::as_str) else { continue };
        let function = code.strip_prefix("functions/").unwrap();
        for policy in resource["Properties"]["Policies"].as_sequence().unwrap() {
            match policy.get("Statement").and_then(Yaml::as_sequence) {
                Some(statements) => {
                    allowed.extend(statements.iter().filter_map(|statement| right(function, statement)))
                }
                None => {
                    assert!(policy.get("AWSSecretsManagerGetSecretValuePolicy").is_some(), "{policy:?}");
                    let action = BTreeSet::from(["secretsmanager:GetSecretValue".to_owned()]);
                    allowed.insert((function.to_owned(), None, On::Secret, action, BTreeSet::new()));
                }
            }
        }
    }
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    let needed = NEEDS
        .iter()
        .map(|need| (need.function.to_owned(), need.only_with, need.on, owned(need.actions), owned(need.prefixes)));
    assert_eq!(needed.collect::<BTreeSet<Right>>(), allowed);
}
