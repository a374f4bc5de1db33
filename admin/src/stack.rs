//! Where the table is and which settings apply: from a CloudFormation stack, or from
//! the environment.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use freshkey::Config;

use crate::failure::Failure;

/// The issuer and the audience where none are set: those of the template. Of all that an
/// operator does, only the check of a new password looks at them.
const DEFAULTS: [(&str, &str); 2] = [("JWT_ISSUER", DEFAULT_ISSUER), ("JWT_AUDIENCE", "freshkey")];
/// The issuer that the template has by default. Nobody finds keys there.
pub const DEFAULT_ISSUER: &str = "https://freshkey.example";
/// The outputs of the template, and the variables that have their values.
const OUTPUTS: [(&str, &str); 2] = [("TableName", "TABLE_NAME"), ("SecretArn", "JWT_SECRET_ARN")];
/// What CloudFormation shows in place of a parameter with `NoEcho`.
const HIDDEN: &str = "****";

/// A stack of Freshkey.
pub struct Stack {
    /// Its name.
    pub name: String,
    settings: HashMap<String, String>,
    outputs: HashMap<String, String>,
}

/// The settings, by the names of docs/settings.md.
pub struct Settings(HashMap<String, String>);

impl Stack {
    /// Reads a stack: its parameters, and where its table and its secret are.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when there is no such stack, or CloudFormation cannot be asked.
    pub async fn read(aws: &SdkConfig, name: &str) -> Result<Self, Failure> {
        let answer = Client::new(aws).describe_stacks().stack_name(name).send().await;
        let missing = || Failure::refused("no_stack", format!("There is no stack {name} in this account and Region."));
        let answer = answer.map_err(|error| match error.message() {
            Some(message) if error.code() == Some("ValidationError") && message.contains("does not exist") => missing(),
            _ => Failure::of_call("cloudformation:DescribeStacks", &error),
        })?;
        let stack = answer.stacks().first().ok_or_else(missing)?;
        let parameters = stack.parameters().iter();
        let parameters = parameters.filter_map(|one| Some((variable(one.parameter_key()?), one.parameter_value()?)));
        let outputs = stack.outputs().iter();
        let outputs = outputs.filter_map(|one| Some((one.output_key()?.to_owned(), one.output_value()?.to_owned())));
        let outputs: HashMap<_, _> = outputs.collect();
        let shown = parameters.map(|(variable, value)| (variable, if value == HIDDEN { "" } else { value }));
        let of_outputs = OUTPUTS
            .iter()
            .filter_map(|(output, variable)| Some(((*variable).to_owned(), outputs.get(*output)?.as_str())));
        let settings = shown.chain(of_outputs).map(|(variable, value)| (variable, value.to_owned())).collect();
        // The operator may have given the stack's ARN.
        Ok(Self { name: stack.stack_name().unwrap_or(name).to_owned(), settings, outputs })
    }

    /// Returns an output, such as `ApiUrl`.
    pub fn output(&self, name: &str) -> Option<&str> {
        self.outputs.get(name).map(String::as_str)
    }

    /// Returns the settings of the parameters, and `TABLE_NAME`. A hidden one is empty.
    pub fn variables(&self) -> &HashMap<String, String> {
        &self.settings
    }

    /// Returns the settings, with another table if one is given.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the stack is not one of Freshkey: it has no table.
    pub fn settings(&self, table: Option<&str>) -> Result<Settings, Failure> {
        let mut settings = self.settings.clone();
        if !settings.contains_key("TABLE_NAME") {
            let message = format!("The stack {} is not one of Freshkey: it has no output TableName.", self.name);
            return Err(Failure::refused("not_freshkey", message));
        }
        settings.extend(table.map(|table| ("TABLE_NAME".to_owned(), table.to_owned())));
        Ok(Settings(settings))
    }
}

impl Settings {
    /// Returns the settings of this process's environment, with this table.
    pub fn of_environment(table: &str, endpoint: &str) -> Self {
        let mut settings: HashMap<_, _> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        for (name, value) in DEFAULTS {
            settings.entry(name.into()).or_insert_with(|| value.into());
        }
        settings.insert("TABLE_NAME".into(), table.into());
        settings.insert("TABLE_ENDPOINT".into(), endpoint.into());
        Self(settings)
    }

    /// Returns a setting, unless it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the settings of the flows, with the keys if they are needed.
    ///
    /// # Errors
    ///
    /// A [`Failure`] with the faults of the settings.
    pub fn config(&self, needs_keys: bool) -> Result<Config, Failure> {
        let lookup = |name: &str| self.get(name).map(str::to_owned);
        Ok(if needs_keys { Config::parse(lookup)? } else { Config::parse_without_keys(lookup)? })
    }
}

/// Returns the variable that the template sets from a parameter: `JWT_ISSUER` for
/// `JwtIssuer`.
fn variable(parameter: &str) -> String {
    let mut variable = String::new();
    for (at, letter) in parameter.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            variable.push('_');
        }
        variable.push(letter.to_ascii_uppercase());
    }
    variable
}

/// Returns the parameter that sets a variable: `JwtIssuer` for `JWT_ISSUER`.
pub fn parameter(variable: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        format!("{first}{}", rest.to_ascii_lowercase())
    };
    variable.split('_').map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_of_the_template_has_the_name_of_its_parameter() {
        let template = include_str!("../../template.yaml");
        let is_variable = |name: &str| name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
        let set = template.lines().filter_map(|line| line.trim().split_once(": !Ref "));
        let set: Vec<_> = set.filter(|(name, _)| is_variable(name)).collect();
        assert!(set.len() > 20, "{set:?}");
        for (name, parameter) in set {
            let is_resource = ["Table", "Secret"].contains(&parameter);
            assert!(is_resource || variable(parameter) == name, "{name}: {parameter}");
            assert!(is_resource || super::parameter(name) == parameter, "{name}: {parameter}");
        }
    }
}
