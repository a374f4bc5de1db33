use super::*;

fn fault(text: &str) -> Option<WeakPassword> {
    Password::chosen(text, 8, &["alice@example.com", "alice", "freshkey"]).err()
}

#[test]
fn pw1_pw2_length_counts_code_points() {
    assert_eq!(fault("\u{1f600}\u{1f601}\u{1f602}\u{1f603}\u{1f604}\u{1f605}\u{1f606}\u{1f607}"), None);
    assert_eq!(fault(&"\u{1f600}".repeat(7)), Some(WeakPassword::TooShort { minimum: 8 }));
    // The second password has eight code points as typed, but seven after composition.
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
fn pw2_pw3_pw4_the_limits_count_the_composed_form_whichever_was_sent() {
    let composed = "\u{e9}\u{e8}\u{ea}".repeat(85) + "\u{e9}";
    let decomposed: String = composed.nfd().collect();
    assert_eq!((composed.chars().count(), decomposed.chars().count()), (256, 512));
    for text in [&composed, &decomposed] {
        assert_eq!(fault(text), None);
        assert_eq!(Password::presented(text).unwrap().expose(), composed);
        assert_eq!(fault(&format!("{text}x")), Some(WeakPassword::TooLong));
    }
    // Hangul in NFD has three code points and nine bytes for each composed code point.
    let hangul: String = "\u{ac01}".repeat(256).nfd().collect();
    assert_eq!((hangul.len(), fault(&hangul)), (2304, Some(WeakPassword::Blocklisted)));
    // This letter has no composed form: 129 of them are 258 code points.
    assert_eq!(fault(&"\u{958}".repeat(129)), Some(WeakPassword::TooLong));
    assert!(Password::presented(&"\u{958}".repeat(129)).is_none());
}

#[test]
fn pw5_there_are_no_composition_rules() {
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
fn pw7_the_address_and_the_service_are_no_passwords() {
    for text in ["Alice@Example.com", "alice@example.com", "FreshKey"] {
        assert_eq!(fault(text), Some(WeakPassword::Guessable), "{text}");
    }
}

#[test]
fn se5_a_password_is_never_printed() {
    let printed = format!("{:?}", Password::presented("canary-of-a-password"));
    assert!(!printed.contains("canary"), "{printed}");
}
