//! A running system, and the command.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use freshkey::auth::{App, SignedIn};
use freshkey::client::Client;
use freshkey::store::{Accounts, Rows};
use freshkey::user::Profile;
use freshkey::{Clock, SystemClock};
use local::{LocalClock, Options, System, TEMPLATE};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A password that the rules accept.
pub const PASSWORD: &str = "a quiet river under seven bridges";
/// The address of the first user.
pub const EMAIL: &str = "alice@example.com";

/// A running system, and a directory for the command.
pub struct World {
    pub system: Arc<System>,
    pub directory: TempDir,
    /// The environment of the command.
    pub variables: BTreeMap<String, String>,
    /// The options that name the table.
    pub target: Vec<String>,
}

/// What the command did.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    /// The objects that it printed.
    pub objects: Vec<Value>,
    pub output: String,
    pub errors: String,
}

/// A system with mail on, on this clock.
pub async fn world_at(clock: Arc<dyn Clock>) -> World {
    world_over(clock, &[], None).await
}

/// The same with more variables, whose functions call AWS through `http_client`.
pub async fn world_over(clock: Arc<dyn Clock>, more: &[(&str, &str)], http_client: Option<SharedHttpClient>) -> World {
    let mail = [
        ("MAIL_FROM", "no-reply@example.com"),
        ("RESET_URL", "https://app.example.com/reset"),
        ("CONFIRM_URL", "https://app.example.com/confirm"),
    ];
    let variables = mail.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let variables: BTreeMap<_, _> = variables.collect();
    let options = Options {
        template: TEMPLATE.into(),
        data: None,
        table_endpoint: None,
        allow_origins: Vec::new(),
        variables: variables.clone(),
        clock: LocalClock::new(clock),
        http_client,
    };
    let system = Arc::new(System::start(options).await.unwrap());
    let target = ["--table", system.table_name(), "--endpoint", system.table_endpoint()];
    let target = target.map(str::to_owned).to_vec();
    World { system, directory: tempfile::tempdir().unwrap(), variables, target }
}

/// A system with mail off and these variables.
pub async fn without_mail(variables: &[(&str, &str)]) -> World {
    world_over(Arc::new(SystemClock), &[&[("MAIL_FROM", "")], variables].concat(), None).await
}

/// A system with mail on, and a user who has just registered.
pub async fn signed_up() -> (World, SignedIn) {
    let world = world_at(Arc::new(SystemClock)).await;
    let alice = world.register(EMAIL).await;
    (world, alice)
}

impl World {
    pub fn app(&self) -> &App {
        self.system.function("register").unwrap().app()
    }

    pub async fn register(&self, email: &str) -> SignedIn {
        self.app().register(email, PASSWORD, Profile::default(), Client::default()).await.unwrap()
    }

    /// Runs the command with `--json --yes`.
    pub fn run(&self, arguments: &str) -> Run {
        self.run_with(arguments, "")
    }

    /// The same, with this standard input.
    pub fn run_with(&self, arguments: &str, input: &str) -> Run {
        let arguments = arguments.split_whitespace();
        self.run_plainly(&["--json", "--yes"].into_iter().chain(arguments).collect::<Vec<_>>(), input)
    }

    /// Runs the command with the options that name the table, and these.
    pub fn run_plainly(&self, arguments: &[&str], input: &str) -> Run {
        execute(self.command(arguments), input)
    }

    /// Runs the command with these arguments, without variables and without naming the
    /// table.
    pub fn run_alone(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshkey"));
        command.env_clear().current_dir(self.directory.path()).args(arguments);
        execute(command, "")
    }

    /// The command with the options that name the table, and these.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshkey"));
        command.env_clear().envs(&self.variables).current_dir(self.directory.path());
        command.args(&self.target).args(arguments);
        command
    }

    /// Every user and session.
    pub async fn rows(&self) -> Accounts {
        self.app().store().scan(Rows::Accounts, None).await.unwrap()
    }
}

fn execute(mut command: Command, input: &str) -> Run {
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that reads nothing may have ended already.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (code, output, errors) = (output.status.code().unwrap(), text(output.stdout), text(output.stderr));
    let objects = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Run { code, objects, output, errors }
}

impl Run {
    /// The objects, of a command that succeeded. Ids are replaced with `ID`, times with
    /// `TIME`.
    #[track_caller]
    pub fn done(self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.objects.len(), self.output.lines().count(), "one object a line: {}", self.output);
        self.objects.iter().map(masked).collect()
    }

    /// The `error` and the `message` of a command that failed with this exit code.
    #[track_caller]
    pub fn failed(self, code: i32) -> (String, String) {
        assert_eq!((self.code, self.output.as_str()), (code, ""), "{self:?}");
        let failure: Value = serde_json::from_str(&self.errors).unwrap_or_else(|_| panic!("{self:?}"));
        let text = |name: &str| failure[name].as_str().unwrap().to_owned();
        (text("error"), text("message"))
    }
}

fn masked(value: &Value) -> Value {
    match value {
        Value::String(text) if uuid::Uuid::parse_str(text).is_ok() => json!("ID"),
        Value::String(text) if text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' => json!("TIME"),
        Value::Array(list) => list.iter().map(masked).collect(),
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), masked(value))).collect(),
        other => other.clone(),
    }
}
