//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use freshkey::id::SessionId;
use freshkey::token::Algorithm;
use freshkey::transport::is_origin;
use url::Url;

/// Operates Freshkey: its users, sessions, limits, mails and keys, and its deployment.
///
/// Exit codes: 0 done; 1 refused, not found, or something is wrong; 2 wrong usage; 3 AWS
/// cannot be reached or does not allow it.
#[derive(Debug, Parser)]
#[command(name = "freshkey", version)]
pub struct Arguments {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

/// The options of every command.
#[derive(Debug, Args)]
pub struct Options {
    /// The name of the CloudFormation stack. Its outputs and parameters say where the
    /// table is and which settings apply.
    #[arg(long, global = true, value_name = "NAME", default_value = "freshkey")]
    pub stack: String,
    /// The name of the table, where it is not the stack's, for example one that was
    /// restored from a backup.
    #[arg(long, global = true, value_name = "NAME")]
    pub table: Option<String>,
    /// The URL of a DynamoDB outside AWS that has the table, for example
    /// http://127.0.0.1:8000. It takes any credentials. There is no stack then: the
    /// settings are environment variables, as docs/settings.md lists them.
    #[arg(long, global = true, value_name = "URL", requires = "table", value_parser = endpoint)]
    pub endpoint: Option<String>,
    /// With --endpoint, the file in which acts are recorded. With a stack, they are
    /// recorded in its log group /freshkey/NAME/operator.
    #[arg(long, global = true, value_name = "FILE", default_value = "freshkey-operator.log")]
    pub log: PathBuf,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Do not ask before acts that cannot be undone, and do not refuse those that come too
    /// early.
    #[arg(long, global = true)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at users, and change them.
    #[command(subcommand)]
    Users(Users),
    /// Look at sessions, and end them.
    #[command(subcommand)]
    Sessions(Sessions),
    /// Look at what the limits have counted, and forget it.
    #[command(subcommand)]
    Limits(Limits),
    /// Look at the mails that wait to be sent.
    #[command(subcommand)]
    Mail(Mail),
    /// Import users of another system from a file of JSON lines, which
    /// docs/moving-in.md describes. Nothing that exists is changed.
    Import {
        #[command(flatten)]
        import: ImportFile,
        /// Import users whose password hash is missing or not understood, who must reset
        /// their password. With mail on, this is the default.
        #[arg(long)]
        allow_no_password: bool,
    },
    /// Import the open sessions of imported users: refresh tokens of another system, from
    /// a file of JSON lines.
    ImportSessions(ImportFile),
    /// Look at the keys of a stack, and rotate them.
    #[command(subcommand)]
    Keys(Keys),
    /// List what users and operators did, from the logs of the stack or from files.
    Audit(Audit),
    /// Look for what is wrong with a deployment, and say how to mend it. Changes nothing.
    Doctor,
    /// Try a deployment: register a throw-away user, refresh, log out and in, and delete
    /// the user. Needs no rights in AWS.
    Smoke(Smoke),
}

#[derive(Debug, Args)]
pub struct Smoke {
    /// The URL of the API, such as the stack's output ApiUrl, with its base path if it has
    /// one.
    #[arg(value_name = "URL", value_parser = web)]
    pub url: Url,
    /// Where refresh tokens are in cookies, one of the AllowedOrigins.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub origin: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Users {
    /// List users, by a scan of the whole table.
    List {
        /// Only users who are disabled.
        #[arg(long)]
        disabled: bool,
        /// Stop after this many.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Show a user with sessions and limits.
    Show(User),
    /// Create a user. With mail on, the user gets a link that sets a password; otherwise
    /// the password is asked for, or read from standard input.
    Create {
        /// The e-mail address.
        email: String,
        /// A role of the user, instead of those in DEFAULT_ROLES. Can be given more than
        /// once.
        #[arg(long, value_name = "ROLE", value_parser = NonEmptyStringValueParser::new())]
        role: Vec<String>,
    },
    /// Delete a user with every session. Asks first.
    Delete(User),
    /// Disable a user, who can then neither log in nor refresh. Ends every session.
    Disable(User),
    /// Let a disabled user log in again. Earlier sessions stay ended.
    Enable(User),
    /// Mark a user's address as verified.
    Verify(User),
    /// Give roles to a user, or take them away.
    Roles {
        #[command(flatten)]
        user: User,
        /// A role to give. Can be given more than once.
        #[arg(long, value_name = "ROLE", value_parser = NonEmptyStringValueParser::new(), required_unless_present = "remove")]
        add: Vec<String>,
        /// A role to take away. Can be given more than once.
        #[arg(long, value_name = "ROLE", value_parser = NonEmptyStringValueParser::new())]
        remove: Vec<String>,
        /// End every session of the user, too.
        #[arg(long)]
        end_sessions: bool,
    },
    /// Move an account to another address, which is then unverified. Ends every session,
    /// and tells the earlier address. Asks first.
    Rename {
        #[command(flatten)]
        user: User,
        /// The new address.
        email: String,
    },
    /// Make a link that resets a user's password, and tell the user. Anybody who has the
    /// link can log in as the user. Asks first.
    ResetLink {
        #[command(flatten)]
        user: User,
        /// Mail the link to the user instead of printing it.
        #[arg(long)]
        send: bool,
        /// The page of your app that resets a password. The default is the stack's
        /// ResetUrl, or RESET_URL.
        #[arg(long, value_name = "URL", conflicts_with = "send")]
        reset_url: Option<Url>,
    },
    /// Print everything that is held about a user, as JSON and without hashes. Scans the
    /// whole table.
    Export(User),
}

/// A user.
#[derive(Debug, Args)]
pub struct User {
    /// The user's e-mail address or id.
    #[arg(value_name = "EMAIL_OR_ID")]
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// List the sessions of a user, or all of them by a scan of the whole table.
    List {
        /// The user's e-mail address or id.
        #[arg(value_name = "EMAIL_OR_ID")]
        user: Option<String>,
        /// Sessions that can be refreshed.
        #[arg(long)]
        valid: bool,
        /// Sessions whose time is over, and that are not deleted yet.
        #[arg(long)]
        expired: bool,
        /// Sessions that were ended: by the user, by an operator, or because a spent
        /// token was presented.
        #[arg(long)]
        revoked: bool,
    },
    /// End one session of a user, or every one.
    Revoke {
        #[command(flatten)]
        user: User,
        /// The id of the session.
        #[arg(value_name = "SESSION_ID", value_parser = session_id)]
        session: Option<SessionId>,
    },
    /// Delete the expired sessions that are still in the table. It deletes them by itself
    /// within days.
    Clear,
}

#[derive(Debug, Subcommand)]
pub enum Limits {
    /// Show what is counted for an account or an IP address. Wrong passwords from known
    /// devices are counted by the device, and not shown.
    Show(Counted),
    /// Forget what is counted for an account or an IP address.
    Clear(Counted),
}

/// What the limits count for.
#[derive(Debug, Args)]
pub struct Counted {
    /// An e-mail address, with or without an account, a user's id, or the IP address of a
    /// client.
    #[arg(value_name = "EMAIL_OR_ID_OR_IP")]
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub enum Mail {
    /// List the mails that wait to be sent, without addresses and contents.
    List,
    /// Wake the mailer and let it try every mail at once, also those that it has taken.
    /// Asks first, because a mail that is just being sent is then sent twice.
    Retry,
}

/// A file to import.
#[derive(Debug, Args)]
pub struct ImportFile {
    /// The file, with one JSON object a line.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Check every line and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Go on where an import of this file was interrupted. FILE.progress says where.
    #[arg(long, conflicts_with = "dry_run")]
    pub resume: bool,
}

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// List the keys.
    List,
    /// Add a key, which verifies but does not sign. Prints its name.
    Add {
        /// The algorithm. The key for HS256 is a random secret, which can also sign
        /// refresh tokens.
        #[arg(value_name = "ALG", value_parser = algorithm())]
        algorithm: Algorithm,
        /// Add this private key instead of a new one.
        #[arg(long, value_name = "FILE")]
        pem: Option<PathBuf>,
        /// Read the passphrase of FILE from standard input.
        #[arg(long, requires = "pem")]
        passphrase_stdin: bool,
    },
    /// Let a key sign. Without --yes, it must have been there for ten minutes, so that
    /// every function knows it.
    Use {
        /// The name of the key.
        name: String,
        /// What the key signs. The default is access for a private key; for a random
        /// secret it is both where JwtAlgorithm is HS256, and otherwise refresh.
        #[arg(long = "for", value_name = "TOKENS")]
        role: Option<For>,
    },
    /// Take out a key that no longer signs. Without --yes, every token that it signed
    /// must have expired.
    Retire {
        /// The name of the key.
        name: String,
    },
}

/// What a key is to sign.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum For {
    /// Access tokens.
    Access,
    /// Refresh tokens.
    Refresh,
    /// Both.
    Both,
}

#[derive(Debug, Args)]
pub struct Audit {
    /// Only acts about this user. An id needs no account: the log has deleted users, too.
    #[arg(long, value_name = "EMAIL_OR_ID")]
    pub user: Option<String>,
    /// Only acts since so long ago: a number with s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = since)]
    pub since: Duration,
    /// Read this file instead of the stack's logs: the log of a function or of the local
    /// system, or the record of acts. Can be given more than once.
    #[arg(long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
}

/// Parses the name of an algorithm.
fn algorithm() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(["HS256", "RS256", "ES256", "EdDSA"]).try_map(|name| name.parse::<Algorithm>())
}

/// Parses a length of time, such as `1h`.
fn since(text: &str) -> Result<Duration, &'static str> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let parsed = units.into_iter().find_map(|(unit, seconds)| {
        let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_secs(u64::from(number) * seconds))
    });
    parsed.ok_or("must be a whole number with s, m, h or d, such as 1h")
}

/// Parses the value of `--endpoint`. A DynamoDB in AWS is found by a stack, whose log
/// group has the record of acts.
fn endpoint(text: &str) -> Result<String, &'static str> {
    let is_plain_http = Url::parse(text).is_ok_and(|url| url.scheme() == "http");
    if is_plain_http { Ok(text.to_owned()) } else { Err("must be an http URL such as http://127.0.0.1:8000") }
}

fn web(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok().filter(|url| {
        let is_bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        ["http", "https"].contains(&url.scheme()) && is_bare
    });
    url.ok_or("must be an http or https URL such as https://auth.example.com")
}

fn origin(text: &str) -> Result<String, &'static str> {
    let is_plain = is_origin(text) && text.is_ascii();
    if is_plain { Ok(text.to_owned()) } else { Err("must be an origin such as https://app.example.com") }
}

fn session_id(text: &str) -> Result<SessionId, &'static str> {
    SessionId::parse(text).ok_or("a session's id is a UUID, as `sessions list` prints it")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
