use super::*;

fn fault(text: &str) -> Option<WeakPassword> {
    Password::chosen(text, 8, &["alice@example.com", "alice", "freshkey"]).err()
}

#[test]
fn pw1_pw2_length_counts_code_points() {
    assert_eq!(fault("\u{1f600}\u{1f601}\u{1f602}\u{1f603}\u{1f604}\u{1f605}\u{1f606}\u{1f607}"), None);
    assert_eq!(fault(&"\u{1f600}".repeat(7)), Some(WeakPassword::TooShort { minimum: 8 }));
    // Seven code points once composed, eight as typed.
    assert_eq!(fault("zyxwvute\u{301}"), None);
    assert_eq!(fault("yxwvute\u{301}"), Some(WeakPassword::TooShort { minimum: 8 }));
}

#[test]
fn pw3_a_long_password_is_taken_whole_or_refused() {
    let words = "a quiet river under seven bridges ".repeat(8);
    assert_eq!(fault(&words[..64]), None);
    assert_eq!(fault(&words[..256]), None);
    assert_eq!(fault(&words[..257]), Some(WeakPassword::TooLong));
    assert_eq!(fault(&"\u{1f600}ab".repeat(80)), None);
    assert!(Password::presented(&"x".repeat(257)).is_none());
}

#[test]
fn pw5_there_are_no_rules_of_composition() {
    for text in ["qwlkjhzmnbvpoiu", "        plain        ", "84629173"] {
        assert_eq!(fault(text), None, "{text}");
    }
}

#[test]
fn pw6_common_passwords_are_refused_as_a_whole_and_repeated() {
    assert!(COMMON.len() >= 3000);
    for text in ["password", "PassWord", "passwordpassword", "12345678", "aaaaaaaaaaaa", "pa\u{17f}\u{17f}word"] {
        assert_eq!(fault(text), Some(WeakPassword::Blocklisted), "{text}");
    }
    assert_eq!(fault("my passwordpassword of the day"), None);
}

#[test]
fn pw7_who_one_is_is_no_password() {
    for text in ["Alice@Example.com", "alice@example.com", "FreshKey"] {
        assert_eq!(fault(text), Some(WeakPassword::Guessable), "{text}");
    }
}

#[test]
fn se5_a_password_is_never_printed() {
    let printed = format!("{:?}", Password::presented("canary-of-a-password"));
    assert!(!printed.contains("canary"), "{printed}");
}
