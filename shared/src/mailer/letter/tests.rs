use proptest::prelude::*;

use super::*;
use crate::email::Email;
use crate::mailer::ses;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0";

fn mail(kind: Kind, user_agent: &str) -> Mail {
    let client = Client { ip: "192.0.2.1".into(), user_agent: user_agent.into() };
    Mail::new(kind, Email::parse("alice@example.com").unwrap(), None, client, NOW)
}

fn link(kind: Kind) -> Option<SecretString> {
    let page = Url::parse("https://app.example.com/page?from=mail&x=1").unwrap();
    (!kind.is_notice()).then(|| url(&page, &"TOKEN".into()))
}

fn write(kind: Kind, app: &str, user_agent: &str) -> Letter {
    Letter::write(&mail(kind, user_agent), app, link(kind).as_ref()).unwrap()
}

/// Every letter: those of every kind, and the one to an address that is taken.
fn letters(app: &str, user_agent: &str) -> Vec<Letter> {
    let taken = Letter::write(&mail(Kind::Change, user_agent), app, None).unwrap();
    Kind::ALL.into_iter().map(|kind| write(kind, app, user_agent)).chain([taken]).collect()
}

#[test]
fn the_words_of_every_letter() {
    let all: Vec<_> = letters("Example", AGENT)
        .iter()
        .map(|letter| format!("Subject: {}\n\n{}", letter.subject, letter.text))
        .collect();
    let all = all.join("\n\n================\n\n") + "\n";
    assert_eq!(all, include_str!("letters.txt"), "\n{all}");
}

#[test]
fn the_html_of_a_letter_with_a_link() {
    let html = write(Kind::Reset, "Example", AGENT).html + "\n";
    assert_eq!(html, include_str!("letter.html"), "\n{html}");
}

#[test]
fn the_html_says_what_the_text_says() {
    for letter in letters("Example", AGENT) {
        for line in letter.text.lines().filter(|line| !line.starts_with("--")) {
            let line = line.replace('&', "&#38;");
            assert!(letter.html.contains(&line), "{line}: {}", letter.html);
        }
    }
}

#[test]
fn only_requests_bring_a_link_and_nothing_else_is_fetched_or_followed() {
    for letter in letters("Example", "see https://evil.example/x") {
        let links = letter.html.matches("href=").count();
        assert_eq!(links, letter.text.matches("#token=TOKEN").count(), "{}", letter.html);
        assert_eq!(letter.html.matches("://").count(), links, "{}", letter.html);
        assert_eq!(letter.html.matches("<a ses:no-track ").count(), links, "{}", letter.html);
        assert!(!letter.html.contains("src="), "{}", letter.html);
    }
}

#[test]
fn a_link_is_the_page_of_the_configuration_with_the_token_in_the_fragment() {
    let page = Url::parse("https://app.example.com/reset?x=1").unwrap();
    let link = url(&page, &"abc-_".into());
    assert_eq!(link.expose_secret(), "https://app.example.com/reset?x=1#token=abc-_");
}

#[test]
fn a_time_is_in_words_and_in_utc() {
    assert_eq!(date(NOW), "15 January 2027, 08:00 UTC");
}

#[test]
fn ml18_a_user_agent_is_cut_and_never_looks_like_a_link() {
    let shown = |user_agent: &str| program(&Client { ip: String::new(), user_agent: user_agent.into() });
    for (user_agent, expected) in [
        ("", None),
        ("\r\n\u{2028}", None),
        ("curl/8.5.0", Some("curl/8.5.0")),
        ("a\r\nBcc: eve@example.com", Some("aBcc: eve at example. com")),
        ("see https://evil.example/x", Some("see https: //evil. example/x")),
        ("www.1.com", Some("www. 1. com")),
        ("\u{202e}evil\u{3002}com", Some("evilcom")),
    ] {
        assert_eq!(shown(user_agent).as_deref(), expected, "{user_agent:?}");
    }
    assert_eq!(shown(&"x".repeat(300)).unwrap().len(), 100);
    assert_eq!(shown(AGENT).unwrap(), AGENT.replace("rv:", "rv: "));
}

#[test]
fn a_text_that_is_no_ip_address_is_not_shown() {
    let shown = |text: &str| ip(&Client { ip: text.into(), user_agent: String::new() });
    assert_eq!(shown("2001:db8::1"), "2001:db8::1");
    assert_eq!(shown("192.0.2.1, evil.example"), "unknown");
}

#[test]
fn a_sender_has_a_quoted_name_in_ascii_and_an_encoded_word_otherwise() {
    let from = |app| sender(app, "no-reply@example.com");
    assert_eq!(from("Example"), r#""Example" <no-reply@example.com>"#);
    assert_eq!(from(r#"A "b" \ c"#), r#""A \"b\" \\ c" <no-reply@example.com>"#);
    assert_eq!(from("M\u{fc}ller"), "=?UTF-8?B?TcO8bGxlcg==?= <no-reply@example.com>");
    assert_eq!(from("\r\n"), "no-reply@example.com");
}

/// Texts with what ends a header or opens a tag.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\r\nBcc: eve@example.com".to_owned()),
        Just("\r".to_owned()),
        Just("\n\n".to_owned()),
        Just("\u{2028}".to_owned()),
        Just("\u{2029}".to_owned()),
        Just("\u{85}".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("<script>&'".to_owned()),
        Just("=?UTF-8?B?".to_owned()),
        Just("{{ app }}".to_owned()),
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn ends_lines(text: &str) -> bool {
    text.contains(|c: char| c.is_control() || ['\u{2028}', '\u{2029}'].contains(&c))
}

proptest! {
    #[test]
    fn ml18_no_name_of_an_app_ends_a_header(app in hostile()) {
        let from = sender(&app, "no-reply@example.com");
        prop_assert!(!ends_lines(&from) && from.is_ascii(), "{from:?}");
        let name = from.strip_suffix("<no-reply@example.com>").or(from.strip_suffix("no-reply@example.com")).unwrap();
        if let Some(quoted) = name.strip_prefix('"') {
            let quoted = quoted.strip_suffix("\" ").unwrap();
            let unescaped = quoted.replace("\\\\", "").replace("\\\"", "");
            prop_assert!(!unescaped.contains(['"', '\\']), "{from:?}");
        } else {
            prop_assert!(name.is_empty() || name.starts_with("=?UTF-8?B?") && name.ends_with("?= "), "{from:?}");
            prop_assert!(!name.contains(['"', '<', '>', ',']), "{from:?}");
        }
        for letter in letters(&app, AGENT) {
            prop_assert!(!ends_lines(&letter.subject), "{:?}", letter.subject);
        }
    }

    #[test]
    fn ml18_an_encoded_name_fits_into_one_encoded_word(app in "[\u{e4}-\u{ff}\u{4e00}-\u{4eff}]{1,15}") {
        let from = sender(&app, "no-reply@example.com");
        prop_assert!(from.split(' ').next().unwrap().len() <= 75, "{from}");
    }

    #[test]
    fn ml18_no_user_agent_and_no_address_changes_a_subject_or_the_form_of_a_letter(text in hostile()) {
        let form = |letter: &Letter| {
            let tags = letter.html.matches(['<', '>', '"', '\'']).count();
            (letter.subject.clone(), letter.text.lines().count(), tags, letter.html.lines().count())
        };
        for kind in Kind::ALL {
            let mail = Mail { client: Client { ip: text.clone(), user_agent: format!("x{text}") }, ..mail(kind, "") };
            let letter = Letter::write(&mail, "Example", link(kind).as_ref()).unwrap();
            prop_assert_eq!(form(&letter), form(&write(kind, "Example", "x")), "{}", letter.html);
        }
    }

    #[test]
    fn ml18_no_stored_address_ends_a_header_or_becomes_two_recipients(written in hostile(), key in hostile()) {
        for email in [Email::stored(format!("{written}@example.com"), format!("x@{key}")), Email::stored(written, key)] {
            let mailbox = ses::mailbox(&email).unwrap_or_default();
            prop_assert!(!mailbox.contains(|c: char| !c.is_ascii_graphic() || "<>,;:\"\\()[]".contains(c)), "{mailbox:?}");
        }
    }
}
