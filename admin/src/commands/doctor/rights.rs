//! What each function must be allowed to do. A test holds this to template.yaml, which
//! another test holds to the calls that the functions make.

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// Items of the table.
    Table,
    /// The stream of the table.
    Stream,
    /// The secret with the keys.
    Secret,
    /// The address that mails come from.
    Sender,
}

/// A right that a function needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The name of the function, without that of the stack.
    pub function: &'static str,
    /// The variable without which it is not needed, if there is one.
    pub only_with: Option<&'static str>,
    pub on: On,
    pub actions: &'static [&'static str],
    /// The beginnings of the partition keys of the items. Empty for every item.
    pub prefixes: &'static [&'static str],
}

const MAIL: Option<&str> = Some("MAIL_FROM");
const IMPORTS: Option<&str> = Some("IMPORTED_TOKENS_UNTIL");
const GET: &str = "dynamodb:GetItem";
const QUERY: &str = "dynamodb:Query";
const PUT: &str = "dynamodb:PutItem";
const UPDATE: &str = "dynamodb:UpdateItem";
const DELETE: &str = "dynamodb:DeleteItem";
const EVERY_ACTION: &[&str] = &[GET, QUERY, PUT, UPDATE, DELETE];
/// What Lambda does for a function to read the stream.
pub const STREAM: &[&str] =
    &["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"];

/// Every right that a function needs.
pub const NEEDS: &[Need] = &[
    items("register", &[PUT, UPDATE]),
    secret("register"),
    items("login", EVERY_ACTION),
    secret("login"),
    items("refresh", &[GET, UPDATE, DELETE]),
    Need { only_with: MAIL, prefixes: &["MAIL#"], ..items("refresh", &[PUT]) },
    Need { only_with: IMPORTS, prefixes: &["USER#"], ..items("refresh", &[QUERY, PUT, "dynamodb:ConditionCheckItem"]) },
    secret("refresh"),
    items("logout", &[DELETE]),
    secret("logout"),
    items("account", &[GET, QUERY, UPDATE, DELETE]),
    Need { only_with: MAIL, ..items("account", &[PUT]) },
    secret("account"),
    items("recovery", EVERY_ACTION),
    items("email", EVERY_ACTION),
    secret("email"),
    Need { prefixes: &["MAIL#", "PROOF#", "LIMIT#mail-"], ..items("mailer", &[QUERY, PUT, UPDATE, DELETE]) },
    Need { prefixes: &["EMAIL#", "USER#"], ..items("mailer", &[GET]) },
    Need { on: On::Stream, ..items("mailer", STREAM) },
    Need { on: On::Sender, ..items("mailer", &["ses:SendEmail"]) },
    secret("keys"),
    items("authorizer", &[GET]),
    secret("authorizer"),
];

const fn items(function: &'static str, actions: &'static [&'static str]) -> Need {
    Need { function, only_with: None, on: On::Table, actions, prefixes: &[] }
}

const fn secret(function: &'static str) -> Need {
    Need { on: On::Secret, ..items(function, &["secretsmanager:GetSecretValue"]) }
}

/// Returns whether a function is one of Freshkey's. A stack may have others.
pub fn is_ours(function: &str) -> bool {
    NEEDS.iter().any(|need| need.function == function)
}
