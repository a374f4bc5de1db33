//! The facts about a stack, or about a table outside AWS. Nothing here judges them.

use std::collections::{BTreeMap, HashMap};

use freshkey::config::MailerConfig;
use freshkey::token::Algorithm;
use freshkey::{Config, ConfigError};
use secrecy::SecretString;
use serde_json::Value;

use crate::failure::Failure;

/// The answer to a question.
pub type Asked<T> = Result<T, Unasked>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// The question makes no sense here.
    Skipped(&'static str),
    /// AWS does not answer or does not allow the question.
    Failed(String),
}

impl From<Failure> for Unasked {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

/// Everything that is judged.
#[derive(Debug)]
pub struct Facts {
    pub deployment: Deployment,
    pub clock: Asked<Reading>,
    /// `None` if there is no such table.
    pub table: Asked<Option<Table>>,
    /// The attribute by which items expire, if they do.
    pub ttl: Asked<Option<String>>,
    /// Whether point-in-time recovery is on.
    pub backups: Asked<bool>,
    pub secret: Asked<Secret>,
    /// What functions may not do, and need to do.
    pub rights: Asked<Vec<Lack>>,
    pub documents: Asked<Documents>,
    pub alarms: Asked<Vec<Alarm>>,
    /// The topics that alarms notify, each with the number of its confirmed
    /// subscriptions. `None` if there is no such topic.
    pub topics: Asked<BTreeMap<String, Option<usize>>>,
    pub sender: Asked<Sender>,
}

/// What is deployed, and where.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The name of the table.
    pub table: String,
    /// The URL of the API.
    pub api: Option<String>,
    /// The stack's parameters, by the names of the variables that they set.
    pub parameters: HashMap<String, String>,
    pub functions: Asked<Vec<Function>>,
}

/// The time of an answer, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When the call was sent, in milliseconds of this machine's clock.
    pub sent: i64,
    /// When it was answered.
    pub answered: i64,
    /// The time in the answer, which is rounded down to a second.
    pub there: i64,
}

/// A function as it is deployed.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name, without that of the stack.
    pub name: String,
    /// The ARN of its role.
    pub role: String,
    pub variables: HashMap<String, String>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its keys: name, kind and type, such as `pk HASH S`.
    pub keys: Vec<String>,
    /// What its stream carries, if it has one.
    pub stream: Option<String>,
}

/// The secret with the keys.
#[derive(Clone, Debug)]
pub struct Secret {
    /// Its ARN.
    pub arn: String,
    /// Its text, or the reason why there is none.
    pub text: Result<SecretString, String>,
}

/// Something that a function must do, and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The name of the function, without that of the stack.
    pub function: String,
    /// The ARN of its role.
    pub role: String,
    pub actions: Vec<String>,
    pub resource: String,
    /// Whether a statement denies it. Otherwise none allows it.
    pub is_denied: bool,
}

/// The two documents below the issuer, each as JSON or with the reason why it is not.
#[derive(Clone, Debug)]
pub struct Documents {
    pub configuration: Result<Value, String>,
    pub keys: Result<Value, String>,
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub name: String,
    /// What it does. `None` if there is no such alarm any more.
    pub actions: Option<Vec<String>>,
    /// Whether its actions are on.
    pub is_on: bool,
}

/// What SES says about the address that mails come from.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Whether the address, its domain or a domain above that is verified.
    pub is_verified: bool,
    /// Whether SES sends to any address. In the sandbox, it sends to verified ones.
    pub has_left_sandbox: bool,
    /// Whether SES sends at all.
    pub is_sending: bool,
}

impl Deployment {
    /// Returns a setting: that of a function, or else that of the stack.
    pub fn setting(&self, name: &str) -> Option<&str> {
        let functions = self.functions.as_deref().unwrap_or_default();
        let values = functions.iter().map(|function| &function.variables).chain([&self.parameters]);
        values.filter_map(|values| values.get(name)).map(|value| value.trim()).find(|value| !value.is_empty())
    }

    /// Returns the algorithm of access tokens, unless the setting has a fault.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.setting("JWT_ALGORITHM").map_or(Some(Algorithm::HS256), |name| name.parse().ok())
    }
}

impl Function {
    /// Returns a variable.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    /// Parses the settings as the function does when it starts.
    ///
    /// # Errors
    ///
    /// Those of the function.
    pub fn parse(&self) -> Result<(), ConfigError> {
        let lookup = |name: &str| self.setting(name);
        match self.name.as_str() {
            "mailer" => MailerConfig::parse(lookup).map(drop),
            "recovery" => Config::parse_without_keys(lookup).map(drop),
            _ => Config::parse(lookup).map(drop),
        }
    }
}
