use super::*;

fn key(text: &str) -> String {
    Email::parse(text).unwrap_or_else(|_| panic!("{text:?} is refused")).key().to_owned()
}

#[test]
fn en4_spellings_of_one_address_have_one_key() {
    for spellings in [
        &["alice@example.com", "Alice@Example.COM", " alice@example.com\n", "ALICE@EXAMPLE.COM"][..],
        &["Jose\u{301}@example.com", "Jos\u{e9}@example.com", "JOS\u{c9}@example.com", "JOSE\u{301}@example.com"],
        &[
            "bob@m\u{fc}nchen.example",
            "bob@xn--mnchen-3ya.example",
            "BOB@MU\u{308}NCHEN.EXAMPLE",
            "bob@XN--MNCHEN-3YA.example",
        ],
        &[
            "\u{39d}\u{399}\u{39a}\u{39f}\u{3a3}.\u{391}@example.gr",
            "\u{3bd}\u{3b9}\u{3ba}\u{3bf}\u{3c2}.\u{3b1}@example.gr",
            "\u{3bd}\u{3b9}\u{3ba}\u{3bf}\u{3c3}.\u{3b1}@example.gr",
        ],
        &["\u{130}nci@example.com", "i\u{307}nci@example.com", "I\u{307}NCI@example.com"],
        &["stra\u{df}e@example.com", "STRASSE@example.com", "STRA\u{1e9e}E@example.com"],
        &[
            "\u{1f80}@example.gr",
            "\u{1f88}@example.gr",
            "\u{3b1}\u{313}\u{345}@example.gr",
            "\u{391}\u{345}\u{313}@example.gr",
        ],
        &["\u{c1}ngstr\u{212b}m@example.com", "\u{e1}ngstr\u{e5}m@example.com"],
        &["\u{e19}\u{e49}\u{e33}@example.com", "\u{e19}\u{e49}\u{e4d}\u{e32}@example.com"],
    ] {
        for spelling in spellings {
            assert_eq!(key(spelling), key(spellings[0]), "{spelling:?}");
        }
    }
}

#[test]
fn en4_the_key_has_the_folded_local_part_and_the_domain_in_ascii() {
    assert_eq!(key("\u{c9}va.ΣΑΣ@M\u{dc}NCHEN.example"), "\u{e9}va.σασ@xn--mnchen-3ya.example");
}

#[test]
fn the_address_is_kept_as_it_was_written() {
    for written in ["Alice@Example.COM", "Jose\u{301}@M\u{fc}nchen.example", "\u{130}nci@example.com"] {
        assert_eq!(Email::parse(&format!("\u{a0}{written}\r\n")).unwrap().as_str(), written);
    }
}

#[test]
fn a_stored_address_is_not_judged_again() {
    let email = Email::stored("No Address", "no key");
    assert_eq!((email.as_str(), email.key(), email.local_part()), ("No Address", "no key", ""));
}

#[test]
fn en4_dots_tags_and_look_alikes_make_another_address() {
    for other in ["alice+news@example.com", "a.lice@example.com", "\u{430}lice@example.com", "al\u{131}ce@example.com"]
    {
        assert_ne!(key(other), key("alice@example.com"));
    }
    assert_ne!(key("stra\u{df}e@stra\u{df}e.example"), key("stra\u{df}e@strasse.example"));
}

#[test]
fn letters_with_marks_of_every_script_are_taken() {
    for text in [
        "info@\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}.\u{92d}\u{93e}\u{930}\u{924}",
        "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}@example.com",
        "\u{ba4}\u{bae}\u{bbf}\u{bb4}\u{bcd}@\u{b87}\u{ba8}\u{bcd}\u{ba4}\u{bbf}\u{baf}\u{bbe}.example",
        "\u{e44}\u{e17}\u{e22}@\u{e17}\u{e35}\u{e48}\u{e17}\u{e33}.\u{e44}\u{e17}\u{e22}",
        "\u{627}\u{644}\u{633}\u{64e}\u{644}\u{627}\u{645}@\u{645}\u{62b}\u{627}\u{644}.\u{645}\u{635}\u{631}",
        "\u{5d9}\u{5b0}\u{5d4}\u{5d5}\u{5d3}\u{5d4}@\u{5d3}\u{5d5}\u{5d2}\u{5de}\u{5d4}.example",
        "\u{565}\u{580}\u{587}\u{561}\u{576}@example.am",
        "\u{1100}\u{1161}\u{11a8}@\u{ac01}.example",
        "col\u{b7}lega@example.cat",
        "\u{f56}\u{f7c}\u{f51}\u{f0b}\u{f61}\u{f72}\u{f42}@example.com",
        "nguy\u{1ec5}n@vi\u{1ec7}t.example",
        "x\u{328}\u{301}@example.com",
        "!#$%&'*+-/=?^_`{|}~.9@ex-am--ple.com",
        "\u{967}\u{968}@example.com",
    ] {
        assert!(Email::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn en4_compatibility_characters_are_refused_in_both_parts() {
    for character in [
        '\u{ff41}',
        '\u{1d41a}',
        '\u{1d7d8}',
        '\u{fb01}',
        '\u{fefb}',
        '\u{2460}',
        '\u{b2}',
        '\u{aa}',
        '\u{24d0}',
        '\u{132}',
        '\u{1c6}',
        '\u{17f}',
        '\u{1e9b}',
        '\u{2102}',
        '\u{ff76}',
        '\u{3392}',
        '\u{2170}',
        '\u{1f130}',
        '\u{b5}',
        '\u{ff0e}',
        '\u{fe52}',
        '\u{ff20}',
        '\u{3002}',
        '\u{ff61}',
    ] {
        for text in [format!("al{character}ce@example.com"), format!("alice@exam{character}ple.com")] {
            assert_eq!(Email::parse(&text), Err(InvalidEmail), "{text}");
        }
    }
    for text in ["alice\u{ff20}example.com", "admin\u{ff20}example.com@evil.com", "alice@example\u{3002}com"] {
        assert_eq!(Email::parse(text), Err(InvalidEmail), "{text}");
    }
}

#[test]
fn en4_what_cannot_be_seen_is_refused_in_both_parts() {
    for character in [
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{1160}',
        '\u{17b4}',
        '\u{180b}',
        '\u{180e}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{200e}',
        '\u{202e}',
        '\u{2028}',
        '\u{2060}',
        '\u{2064}',
        '\u{2066}',
        '\u{206a}',
        '\u{2800}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fff9}',
        '\u{fffc}',
        '\u{1bca0}',
        '\u{1d159}',
        '\u{1d173}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e0100}',
        '\u{a0}',
        '\u{3000}',
        '\u{1680}',
        '\u{80}',
        '\u{9b}',
        '\u{e000}',
        '\u{fdd0}',
        '\u{10ffff}',
        '\u{378}',
    ] {
        for text in [format!("bo{character}ss@example.com"), format!("boss@exa{character}mple.com")] {
            assert_eq!(Email::parse(&text), Err(InvalidEmail), "{}", text.escape_unicode());
        }
    }
}

#[test]
fn in6_in7_what_is_no_address_is_refused() {
    let long_local = format!("{}@example.com", "a".repeat(65));
    let long_mark = format!("{}@example.com", "\u{939}\u{93f}".repeat(11));
    let long_label = format!("alice@{}.com", "b".repeat(64));
    let long = format!("{}@{}com", "a".repeat(64), "b234567890.".repeat(17));
    for text in [
        "",
        "@",
        "alice",
        "@example.com",
        "alice@",
        "alice@localhost",
        "alice@.com",
        "alice@example..com",
        "alice@example.com.",
        "alice@-example.com",
        "alice@example-.com",
        "alice@exam_ple.com",
        "alice@exam!ple.com",
        "alice@127.0.0.1",
        "alice@[127.0.0.1]",
        "alice@xn--.example",
        "alice@xn--a.example",
        "alice@xn--example-sh2a.com",
        "alice@xn--exmple-4p08a.com",
        "alice@\u{301}example.com",
        "alice@xn--i-7iq.ws",
        "alice@\u{2665}.ws",
        "alice@\u{5d0}b.example",
        "\u{301}alice@example.com",
        "alice.\u{301}@example.com",
        ".alice@example.com",
        "alice.@example.com",
        "al..ice@example.com",
        "Alice <alice@example.com>",
        "alice bob@example.com",
        "\"alice bob\"@example.com",
        "\"alice\"@example.com",
        "alice\\@example.com",
        "alice;@example.com",
        "alice\u{37e}@example.com",
        "alice\u{1f44d}@example.com",
        "alice\u{2019}s@example.com",
        "alice=\u{338}@example.com",
        "alice\0@example.com",
        "alice@exam\u{7}ple.com",
        "al\u{9b}ice@example.com",
        "a@b@example.com",
        long.as_str(),
        long_local.as_str(),
        long_mark.as_str(),
        long_label.as_str(),
    ] {
        assert_eq!(Email::parse(text), Err(InvalidEmail), "{text:?}");
    }
    assert!(Email::parse(&format!("{}@example.com", "a".repeat(64))).is_ok());
}
