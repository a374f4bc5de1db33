//! The ids of users and sessions. They are not secret.

use std::fmt;

use uuid::{Builder, Uuid};

use crate::entropy;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Generates a random UUID (RFC 9562, version 4).
            pub fn random() -> Self {
                Self(Builder::from_random_bytes(entropy::bytes()).into_uuid())
            }

            /// Reads the form that `Display` writes. Returns `None` for any other text.
            pub fn parse(text: &str) -> Option<Self> {
                let id = Self(Uuid::try_parse(text).ok()?);
                (id.to_string() == text).then_some(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

id!(
    /// The id of a user: the `sub` of every token.
    UserId
);
id!(
    /// The id of a session, which is one login and its chain of refresh tokens: the
    /// `sid` of every token.
    SessionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_read() {
        let id = UserId::random();
        assert_eq!(UserId::parse(&id.to_string()), Some(id));
        for other in [
            id.to_string().to_uppercase(),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
            id.to_string().replace('-', ""),
            String::new(),
            "../../dev/null".into(),
        ] {
            // A UUID of digits alone is the same in upper case.
            assert!(other == id.to_string() || UserId::parse(&other).is_none(), "{other}");
        }
    }
}
