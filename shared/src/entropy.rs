//! Randomness. Only this module asks the operating system for it.

/// Returns `N` bytes from the system's cryptographic generator.
///
/// # Panics
///
/// When the operating system has no randomness: nothing in this crate is safe
/// without it.
#[expect(clippy::expect_used, reason = "nothing is safe without randomness")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system provides randomness");
    bytes
}
