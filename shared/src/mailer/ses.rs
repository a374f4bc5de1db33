//! Amazon SES: the call that sends a letter, and what its errors mean.

use std::time::Duration;

use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::config::Builder;
use aws_sdk_sesv2::config::retry::RetryConfig;
use aws_sdk_sesv2::config::timeout::TimeoutConfig;
use aws_sdk_sesv2::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message, MessageHeader};

use super::letter::{Letter, sender};
use aws_types::SdkConfig;

use crate::aws::{self, Fault};
use crate::config::MailerConfig;
use crate::email::Email;

/// How long an attempt to send may take. SES is slower than DynamoDB, and a second
/// attempt after an answer that was only late sends the letter twice.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How many attempts are made. Later ones are made under another lease.
const ATTEMPTS: u32 = 2;
/// What a mailbox may have before the `@` besides letters and digits (RFC 5322, section
/// 3.2.3).
const ATEXT: &str = "!#$%&'*+-/=?^_`{|}~.";

/// Where letters are handed over.
#[derive(Clone, Debug)]
pub struct Ses {
    client: Client,
    from: String,
    reply_to: Option<String>,
}

/// Why a letter was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// SES will never take this letter, or send to this address.
    Refused(Fault),
    /// SES takes no letter of this account or sender until somebody changes something.
    Misconfigured(Fault),
    /// The account sends too much or too fast.
    Throttled(Fault),
    /// SES is slow or down.
    Unavailable(Fault),
}

impl From<askama::Error> for Failure {
    fn from(_: askama::Error) -> Self {
        Self::not_built()
    }
}

impl From<BuildError> for Failure {
    fn from(_: BuildError) -> Self {
        Self::not_built()
    }
}

impl Failure {
    fn not_built() -> Self {
        Self::Refused(Fault { code: "not built".to_owned(), is_misconfiguration: false })
    }
}

impl Ses {
    /// Returns the SES of these settings.
    pub fn new(sdk: &SdkConfig, config: &MailerConfig) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(aws::CONNECT * config.patience)
            .operation_attempt_timeout(ATTEMPT * config.patience)
            .operation_timeout(ATTEMPT * ATTEMPTS * config.patience)
            .build();
        let builder = Builder::from(sdk)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        let builder = match config.mail_endpoint.as_deref() {
            None => builder,
            Some(endpoint) if aws::is_plain_http(endpoint) => {
                builder.endpoint_url(endpoint).region(aws::LOCAL_REGION).credentials_provider(aws::local_credentials())
            }
            Some(endpoint) => builder.endpoint_url(endpoint),
        };
        Self {
            client: Client::from_conf(builder.build()),
            from: sender(&config.app_name, &config.from),
            reply_to: config.reply_to.clone(),
        }
    }

    /// Sends a letter to a mailbox.
    ///
    /// # Errors
    ///
    /// The [`Failure`] of the call.
    pub async fn send(&self, mailbox: String, letter: Letter) -> Result<(), Failure> {
        let content = content(letter)?;
        let call = self
            .client
            .send_email()
            .from_email_address(&self.from)
            .destination(Destination::builder().to_addresses(mailbox).build())
            .set_reply_to_addresses(self.reply_to.clone().map(|address| vec![address]))
            .content(content);
        call.send().await.map(drop).map_err(|error| failure(&error))
    }
}

/// Returns the mailbox of an address. `None` if SES cannot send to it, or if a stored
/// address has characters that separate addresses or end a header.
pub fn mailbox(email: &Email) -> Option<String> {
    let mailbox = email.mailbox()?;
    let (local, domain) = mailbox.rsplit_once('@')?;
    let is_local = !local.is_empty() && local.chars().all(|c| c.is_ascii_alphanumeric() || ATEXT.contains(c));
    let is_domain = !domain.is_empty() && domain.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    (is_local && is_domain).then_some(mailbox)
}

fn content(letter: Letter) -> Result<EmailContent, BuildError> {
    let part = |data: String| Content::builder().data(data).charset("UTF-8").build();
    let body = Body::builder().text(part(letter.text)?).html(part(letter.html)?).build();
    // RFC 3834, section 5: nobody answers automatically.
    let header = MessageHeader::builder().name("Auto-Submitted").value("auto-generated").build()?;
    let message = Message::builder().subject(part(letter.subject)?).body(body).headers(header).build();
    Ok(EmailContent::builder().simple(message).build())
}

fn failure<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Failure {
    let message = error.as_service_error().and_then(|error| error.message()).unwrap_or_default();
    classify(Fault::of(error), message)
}

/// Says what a fault means (Amazon SES API v2 Reference, "SendEmail", "Errors").
/// `message` is not kept: it may name the recipient.
fn classify(fault: Fault, message: &str) -> Failure {
    // In the sandbox, for an unverified sender, and where the identity's configuration set
    // is gone, the code is the same as for a letter with a virus.
    const ACCOUNT: [&str; 5] = ["not verified", "suspended", "paused", "disabled", "configuration set"];
    let is_about_the_account = || ACCOUNT.iter().any(|words| message.to_ascii_lowercase().contains(words));
    let misconfigured = |fault| Failure::Misconfigured(Fault { is_misconfiguration: true, ..fault });
    match fault.code.as_str() {
        "BadRequestException" | "MessageRejected" if is_about_the_account() => misconfigured(fault),
        "BadRequestException" | "MessageRejected" => Failure::Refused(fault),
        "AccountSuspendedException"
        | "MailFromDomainNotVerifiedException"
        | "NotFoundException"
        | "SendingPausedException" => misconfigured(fault),
        "LimitExceededException" | "Throttling" | "ThrottlingException" | "TooManyRequestsException" => {
            Failure::Throttled(fault)
        }
        _ if fault.is_misconfiguration => Failure::Misconfigured(fault),
        _ => Failure::Unavailable(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of what SES means by a fault with this code and message.
    fn meaning(code: &str, message: &str) -> &'static str {
        let fault = Fault { code: code.to_owned(), is_misconfiguration: code == "AccessDeniedException" };
        match classify(fault, message) {
            Failure::Refused(_) => "refused",
            Failure::Misconfigured(fault) => {
                assert!(fault.is_misconfiguration, "{code}: an operator hears of it");
                "misconfigured"
            }
            Failure::Throttled(_) => "throttled",
            Failure::Unavailable(_) => "unavailable",
        }
    }

    #[test]
    fn ml14_what_a_fault_of_ses_means() {
        let sandbox = "Email address is not verified. The following identities failed the check in region US-EAST-1: \
                       alice@example.com";
        for (code, message, expected) in [
            ("BadRequestException", "Missing final '@domain'", "refused"),
            ("MessageRejected", "Message contains a virus", "refused"),
            ("MessageRejected", sandbox, "misconfigured"),
            ("MessageRejected", "Sending suspended for this account.", "misconfigured"),
            ("AccountSuspendedException", "", "misconfigured"),
            ("SendingPausedException", "", "misconfigured"),
            ("MailFromDomainNotVerifiedException", "", "misconfigured"),
            ("NotFoundException", "", "misconfigured"),
            ("AccessDeniedException", "", "misconfigured"),
            ("TooManyRequestsException", "", "throttled"),
            ("LimitExceededException", "", "throttled"),
            ("ThrottlingException", "", "throttled"),
            ("InternalFailure", "", "unavailable"),
            ("timeout", "", "unavailable"),
        ] {
            assert_eq!(meaning(code, message), expected, "{code}: {message}");
        }
    }

    #[test]
    fn ml2_the_message_of_a_fault_is_not_kept_because_it_names_the_recipient() {
        for code in ["MessageRejected", "BadRequestException", "TooManyRequestsException", "InternalFailure"] {
            let fault = Fault { code: code.to_owned(), is_misconfiguration: false };
            let failure = classify(fault, "Email address is not verified: alice@example.com");
            assert!(!format!("{failure:?}").contains("alice"), "{failure:?}");
        }
    }

    #[test]
    fn a_mailbox_has_an_ascii_domain_and_an_ascii_local_part() {
        let mailbox_of = |address: &str| mailbox(&Email::parse(address).unwrap());
        assert_eq!(mailbox_of("O'Brien+x@Example.com").as_deref(), Some("O'Brien+x@example.com"));
        assert_eq!(mailbox_of("alice@m\u{fc}nchen.example").as_deref(), Some("alice@xn--mnchen-3ya.example"));
        assert_eq!(mailbox_of("\u{e4}lice@example.com"), None);
        for (written, key) in
            [("a,b@x.example", "a@x.example"), ("a@x.example", "a@x.example,y"), ("@x", "@x"), ("", "")]
        {
            assert_eq!(mailbox(&Email::stored(written, key)), None, "{written} {key}");
        }
    }
}
