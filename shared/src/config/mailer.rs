//! The settings of the function that sends the mails.

use tracing::Level;
use url::Url;

use super::{ConfigError, Reader, is_local};

/// The most bytes of APP_NAME: it fits into one encoded word of a header (RFC 2047,
/// section 2).
const MAX_APP_NAME: usize = 45;

/// The settings of the function that sends the mails. An empty variable counts as
/// missing.
#[derive(Debug)]
pub struct MailerConfig {
    /// `MAIL_FROM` (required): the address that mails are sent from.
    pub from: String,
    /// `REPLY_TO`: the address that answers go to. Default: `MAIL_FROM`.
    pub reply_to: Option<String>,
    /// `APP_NAME`: the name of the app, at most 45 bytes without control characters.
    /// Default: the host of `RESET_URL`.
    pub app_name: String,
    /// `RESET_URL` (required): the page of the app that resets a password. An https URL
    /// without a fragment, or http on this machine.
    pub reset_url: Url,
    /// `CONFIRM_URL` (required): the page of the app that confirms an address. The same
    /// rules apply.
    pub confirm_url: Url,
    /// `TABLE_NAME` (required).
    pub table_name: String,
    /// `TABLE_ENDPOINT`, as in [`Config`](super::Config).
    pub table_endpoint: Option<String>,
    /// `MAIL_ENDPOINT`, the http or https URL of an SES other than the region's.
    /// Default: the region's, or that of `AWS_ENDPOINT_URL_SESV2` or `AWS_ENDPOINT_URL`.
    pub mail_endpoint: Option<String>,
    /// `LOG_LEVEL`: ERROR, WARN, INFO (default), DEBUG or TRACE.
    pub log_level: Level,
    /// `TEST_PATIENCE`, as in [`Config`](super::Config).
    #[cfg_attr(not(feature = "mailer"), expect(dead_code, reason = "only the mailer has timeouts to stretch"))]
    pub(crate) patience: u32,
}

impl MailerConfig {
    /// Reads every setting through `lookup`, which returns the value of a variable.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all faults together, each with its variable and what is
    /// allowed.
    pub fn parse(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reader = Reader { lookup, faults: Vec::new() };
        let reset_url = reader.link("RESET_URL", "the page of your app that resets a password");
        let confirm_url = reader.link("CONFIRM_URL", "the page of your app that confirms an e-mail address");
        let app_name = reader.app_name(reset_url.as_ref());
        let from = reader.mail_address("MAIL_FROM").unwrap_or_else(|| {
            reader.fault("MAIL_FROM", "is missing: the address that mails are sent from");
            String::new()
        });
        let reply_to = reader.mail_address("REPLY_TO");
        let table_name = reader.required("TABLE_NAME", "the name of the DynamoDB table");
        let table_endpoint = reader.endpoint("TABLE_ENDPOINT").map(|url| url.given);
        let mail_endpoint = reader.endpoint("MAIL_ENDPOINT").map(|url| url.given);
        let (log_level, patience) = (reader.log_level(), reader.patience());
        let (Some(reset_url), Some(confirm_url)) = (reset_url, confirm_url) else {
            return Err(ConfigError(reader.faults));
        };
        reader.finish(Self {
            from,
            reply_to,
            app_name,
            reset_url,
            confirm_url,
            table_name,
            table_endpoint,
            mail_endpoint,
            log_level,
            patience,
        })
    }
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    /// Reads the URL of a page that links lead to. The token of a link is its fragment.
    fn link(&mut self, name: &str, expects: &str) -> Option<Url> {
        let given = self.required(name, expects);
        if given.is_empty() {
            return None;
        }
        let url = Url::parse(&given).ok().filter(|url| {
            let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
            is_plain && (url.scheme() == "https" && url.has_host() || is_local(url))
        });
        if url.is_none() {
            self.fault(
                name,
                format_args!(
                    "must be an https URL without a fragment, such as https://app.example.com/reset (http only for \
                     localhost), not {given:?}"
                ),
            );
        }
        url
    }

    fn app_name(&mut self, reset_url: Option<&Url>) -> String {
        let host = || reset_url.and_then(Url::host_str).unwrap_or_default().chars().take(MAX_APP_NAME).collect();
        let name = self.get("APP_NAME").unwrap_or_else(host);
        if name.len() > MAX_APP_NAME || name.contains(char::is_control) {
            self.fault("APP_NAME", format_args!("must be at most {MAX_APP_NAME} bytes, without control characters"));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Parses the required variables, with these changes.
    fn parse(changes: &[(&str, &str)]) -> Result<MailerConfig, ConfigError> {
        let mut variables = HashMap::from([
            ("MAIL_FROM", "no-reply@example.com"),
            ("RESET_URL", "https://app.example.com/reset"),
            ("CONFIRM_URL", "https://app.example.com/confirm?from=mail"),
            ("TABLE_NAME", "freshkey"),
        ]);
        variables.extend(changes.iter().copied());
        MailerConfig::parse(|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn the_app_is_named_after_the_host_of_its_page_unless_it_has_a_name() {
        assert_eq!(parse(&[]).unwrap().app_name, "app.example.com");
        assert_eq!(parse(&[("APP_NAME", "Caf\u{e9}")]).unwrap().app_name, "Caf\u{e9}");
        let long = format!("https://{}.example.com/", "a".repeat(60));
        assert_eq!(parse(&[("RESET_URL", &long)]).unwrap().app_name.len(), MAX_APP_NAME);
    }

    #[test]
    fn links_lead_to_https_or_to_this_machine() {
        for url in ["https://app.example.com", "http://localhost:3000/?view=reset", "http://127.0.0.1:3000/"] {
            assert!(parse(&[("RESET_URL", url), ("CONFIRM_URL", url)]).is_ok(), "{url}");
        }
        for url in [
            "",
            "app.example.com/reset",
            "http://app.example.com/reset",
            "http://localhost.example.com/",
            "https://user@app.example.com/",
            "https://app.example.com/#reset",
            "javascript:alert(1)",
            "app://reset",
        ] {
            for name in ["RESET_URL", "CONFIRM_URL"] {
                let fault = parse(&[(name, url)]).unwrap_err().to_string();
                assert!(fault.contains(name), "{url}: {fault}");
            }
        }
    }

    #[test]
    fn every_fault_is_reported_together_with_the_others() {
        let faults = parse(&[
            ("MAIL_FROM", "nobody"),
            ("REPLY_TO", "x"),
            ("APP_NAME", "line\nend"),
            ("RESET_URL", "x"),
            ("TABLE_NAME", ""),
            ("MAIL_ENDPOINT", "x"),
            ("LOG_LEVEL", "x"),
        ]);
        let faults = faults.unwrap_err().to_string();
        for name in ["MAIL_FROM", "REPLY_TO", "APP_NAME", "RESET_URL", "TABLE_NAME", "MAIL_ENDPOINT", "LOG_LEVEL"] {
            assert!(faults.contains(name), "{name}: {faults}");
        }
        let name = "x".repeat(MAX_APP_NAME + 1);
        assert!(parse(&[("APP_NAME", &name)]).unwrap_err().to_string().contains("at most 45 bytes"));
    }
}
