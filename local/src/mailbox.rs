//! A mailbox in place of SES: it takes every mail that the mailer sends and keeps it.
//! Nothing leaves this machine.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::post;
use freshkey::{Clock as _, Timestamp};
use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::clock::LocalClock;
use crate::gateway;

/// The most mails that are kept. After that, the oldest are dropped.
pub const KEPT: usize = 1000;

/// The path of SES's call `SendEmail`.
///
/// <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html>
const SEND_EMAIL: &str = "/v2/email/outbound-emails";

/// A mail that was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// The number of the mail, from 1.
    pub id: usize,
    /// The sender, with a name.
    pub from: String,
    /// The address of the recipient.
    pub to: String,
    /// The addresses for answers.
    pub reply_to: Vec<String>,
    /// The subject.
    pub subject: String,
    /// The body as text.
    pub text: String,
    /// The body as HTML.
    pub html: String,
    /// The headers besides those above, each with its value.
    pub headers: Vec<(String, String)>,
    /// When it was sent.
    pub sent_at: Timestamp,
}

/// The mailbox. All its clones are one mailbox.
#[derive(Clone, Debug)]
pub struct Mailbox {
    clock: LocalClock,
    sent: Arc<Mutex<Sent>>,
}

#[derive(Debug, Default)]
struct Sent {
    count: usize,
    /// The oldest comes first.
    mails: VecDeque<Mail>,
}

/// Leaves out the letter and the address: a letter can hold the token of a link.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("id", &self.id).field("sent_at", &self.sent_at).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// Returns an empty mailbox.
    pub fn new(clock: LocalClock) -> Self {
        Self { clock, sent: Arc::default() }
    }

    /// Returns the last [`KEPT`] mails, the newest first.
    pub fn mails(&self) -> Vec<Mail> {
        self.with(|sent| sent.mails.iter().rev().cloned().collect())
    }

    /// Returns the mail with this number, if it is still kept.
    pub fn mail(&self, id: usize) -> Option<Mail> {
        self.with(|sent| sent.mails.iter().find(|mail| mail.id == id).cloned())
    }

    /// Returns the routes of SES.
    pub fn ses<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let mailbox = self.clone();
        let send = async move |headers: HeaderMap, body: Bytes| match headers.get(ORIGIN) {
            None => mailbox.send(&body),
            // A browser sends it for a page, and no page sends mails.
            Some(_) => gateway::message(StatusCode::FORBIDDEN).map(Body::from),
        };
        Router::new().route(SEND_EMAIL, post(send))
    }

    /// Answers a call of `SendEmail`.
    fn send(&self, body: &[u8]) -> Response<Body> {
        let answer = match serde_json::from_slice::<SendEmail>(body).map(SendEmail::mail) {
            Ok(Ok(mail)) => {
                let id = self.keep(mail);
                gateway::json_response(StatusCode::OK, &json!({ "MessageId": format!("local-{id}") }))
            }
            Ok(Err(problem)) => refusal(problem),
            Err(error) => refusal(&error.to_string()),
        };
        answer.map(Body::from)
    }

    fn keep(&self, mail: Mail) -> usize {
        let sent_at = self.clock.now();
        self.with(|sent| {
            sent.count += 1;
            sent.mails.push_back(Mail { id: sent.count, sent_at, ..mail });
            if sent.mails.len() > KEPT {
                sent.mails.pop_front();
            }
            sent.count
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Sent) -> T) -> T {
        act(&mut self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn refusal(problem: &str) -> Response<Bytes> {
    const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
    let mut response = gateway::json_response(StatusCode::BAD_REQUEST, &json!({ "message": problem }));
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static("BadRequestException"));
    response
}

/// The members of a `SendEmail` that the mailer sends. Any other is an error, so that
/// nothing is lost without a word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct SendEmail {
    from_email_address: String,
    destination: Destination,
    #[serde(default)]
    reply_to_addresses: Vec<String>,
    content: Content,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Destination {
    to_addresses: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Content {
    simple: Message,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Message {
    subject: Text,
    body: Bodies,
    #[serde(default)]
    headers: Vec<Header>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Bodies {
    text: Text,
    html: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Text {
    data: String,
    #[serde(default)]
    charset: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Header {
    name: String,
    value: String,
}

impl SendEmail {
    /// Returns the mail, not yet numbered.
    fn mail(self) -> Result<Mail, &'static str> {
        let Ok([to]) = <[String; 1]>::try_from(self.destination.to_addresses) else {
            return Err("a mail has one recipient");
        };
        let Message { subject, body: Bodies { text, html }, headers } = self.content.simple;
        let is_utf8 = |text: &Text| text.charset.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("utf-8"));
        if ![&subject, &text, &html].into_iter().all(is_utf8) {
            return Err("the charset of each text is UTF-8: SES's default is ASCII");
        }
        Ok(Mail {
            id: 0,
            from: self.from_email_address,
            to,
            reply_to: self.reply_to_addresses,
            subject: subject.data,
            text: text.data,
            html: html.data,
            headers: headers.into_iter().map(|Header { name, value }| (name, value)).collect(),
            sent_at: Timestamp::default(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use freshkey::ManualClock;
    use serde_json::Value;

    use super::*;

    fn mailbox() -> Mailbox {
        Mailbox::new(LocalClock::new(Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)))))
    }

    /// A call of `SendEmail`, as the SDK sends it.
    pub(crate) fn send_email(to: &str, subject: &str) -> Value {
        let text = |data: &str| json!({ "Data": data, "Charset": "UTF-8" });
        json!({
            "FromEmailAddress": "\"App\" <no-reply@example.com>",
            "Destination": { "ToAddresses": [to] },
            "ReplyToAddresses": ["support@example.com"],
            "Content": { "Simple": {
                "Subject": text(subject),
                "Body": { "Text": text("Grüße"), "Html": text("<p>Grüße</p>") },
                "Headers": [{ "Name": "Auto-Submitted", "Value": "auto-generated" }],
            } },
        })
    }

    fn send(mailbox: &Mailbox, body: &Value) -> u16 {
        mailbox.send(body.to_string().as_bytes()).status().as_u16()
    }

    #[test]
    fn what_is_sent_is_kept_with_its_number_and_time_the_newest_first() {
        let mailbox = mailbox();
        for subject in ["First", "Second"] {
            assert_eq!(send(&mailbox, &send_email("ada@example.com", subject)), 200);
        }
        let [second, first] = mailbox.mails().try_into().unwrap();
        let expected = Mail {
            id: 1,
            from: "\"App\" <no-reply@example.com>".into(),
            to: "ada@example.com".into(),
            reply_to: vec!["support@example.com".into()],
            subject: "First".into(),
            text: "Grüße".into(),
            html: "<p>Grüße</p>".into(),
            headers: vec![("Auto-Submitted".into(), "auto-generated".into())],
            sent_at: Timestamp::from_seconds(1_800_000_000),
        };
        assert_eq!(first, expected);
        assert_eq!((second.id, second.subject.as_str()), (2, "Second"));
        assert_eq!(mailbox.mail(2), Some(second));
        assert_eq!(mailbox.mail(3), None);
    }

    #[test]
    fn what_it_would_not_keep_whole_is_refused() {
        let mailbox = mailbox();
        let good = send_email("ada@example.com", "A subject");
        for (path, value) in [
            ("/Destination/ToAddresses", json!([])),
            ("/Destination/ToAddresses", json!(["ada@example.com", "bob@example.com"])),
            ("/Destination", json!({ "ToAddresses": ["ada@example.com"], "BccAddresses": ["bob@example.com"] })),
            ("/Content", json!({ "Raw": { "Data": "" } })),
            ("/Content/Simple/Subject", json!({ "Data": "Grüße" })),
            ("/Content/Simple/Body", json!({ "Text": { "Data": "x", "Charset": "UTF-8" } })),
            ("/FromEmailAddress", Value::Null),
        ] {
            let mut body = good.clone();
            *body.pointer_mut(path).unwrap() = value;
            assert_eq!(send(&mailbox, &body), 400, "{body}");
        }
        assert_eq!(mailbox.mails(), []);
        assert_eq!(send(&mailbox, &good), 200);
    }

    #[test]
    fn the_oldest_mails_are_dropped() {
        let mailbox = mailbox();
        for _ in 0..=KEPT {
            send(&mailbox, &send_email("ada@example.com", "Again"));
        }
        let ids: Vec<_> = mailbox.mails().iter().map(|mail| mail.id).collect();
        assert_eq!(ids, (2..=KEPT + 1).rev().collect::<Vec<_>>());
    }
}
