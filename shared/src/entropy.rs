//! Randomness: the one place that asks the machine for it.

/// `N` bytes from the system's cryptographic generator.
///
/// # Panics
///
/// When the operating system has no randomness to give: nothing that this crate
/// does is safe without it.
#[expect(clippy::expect_used, reason = "there is no safe way on without randomness")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}
