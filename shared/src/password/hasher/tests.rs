use super::*;

fn hasher() -> Hasher {
    Hasher::new(WorkFactor { memory_kib: 19_456, iterations: 2 }, 2)
}

fn password(text: &str) -> Password {
    Password::presented(text).unwrap()
}

async fn check(hasher: &Hasher, text: &str, stored: &str) -> Check {
    hasher.verify(&password(text), Some(&PasswordHash::stored(stored.into()))).await.unwrap()
}

async fn is_right(hasher: &Hasher, text: &str, stored: &PasswordHash) -> bool {
    matches!(check(hasher, text, stored.as_str()).await, Check::Right { .. })
}

#[tokio::test]
async fn pw9_a_hash_is_argon2id_in_phc_form_and_verifies() {
    let hasher = hasher();
    let hash = hasher.hash(&password("a quiet river")).await.unwrap();
    assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
    assert!(is_right(&hasher, "a quiet river", &hash).await);
    assert!(!is_right(&hasher, "a quiet rivers", &hash).await);
    assert_ne!(hash, hasher.hash(&password("a quiet river")).await.unwrap());
}

#[tokio::test]
async fn pw9_a_hash_of_the_reference_implementation_verifies() {
    // argon2-cffi 25.1: PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
    let stored = PasswordHash::stored(REFERENCE.into());
    assert!(is_right(&hasher(), "correct horse battery staple", &stored).await);
}

const REFERENCE: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$s6a7LqiXlxPXbE1z0oIHBg$+wztwa7Di5ndQQ5slM2cuvUcEKPCa0jVf4Jnsad0diE";

#[tokio::test]
async fn pw4_composition_is_folded_and_compatibility_is_not() {
    let hasher = hasher();
    let hash = hasher.hash(&password("cafe\u{301} ﬁn ")).await.unwrap();
    assert!(is_right(&hasher, "caf\u{e9} ﬁn ", &hash).await);
    assert!(!is_right(&hasher, "caf\u{e9} fin ", &hash).await);
    assert!(!is_right(&hasher, "caf\u{e9} ﬁn", &hash).await);
}

/// Also EN2: the number depends on the password alone.
#[tokio::test]
async fn en2_pw12_one_hash_is_computed_for_each_spelling_whatever_is_stored() {
    let hasher = hasher();
    let hash = hasher.hash(&password("a quiet caf\u{e9}")).await.unwrap();
    let huge = hash.as_str().replace("m=19456", "m=4194304");
    for (text, hashes) in [("not a quiet caf\u{e9}", 1), ("not a quiet cafe\u{301}", 2)] {
        for (stored, expected) in [
            (None, Check::Wrong),
            (Some(hash.as_str()), Check::Wrong),
            (Some("x"), Check::Unreadable),
            (Some(""), Check::Unreadable),
            (Some(huge.as_str()), Check::Unreadable),
        ] {
            let before = hasher.computed();
            let stored = stored.map(|text| PasswordHash::stored(text.into()));
            assert_eq!(hasher.verify(&password(text), stored.as_ref()).await, Ok(expected), "{stored:?}");
            assert_eq!(hasher.computed() - before, hashes, "{stored:?}");
        }
    }
}

#[tokio::test]
async fn pw10_less_work_than_today_makes_a_hash_outdated_and_more_does_not() {
    let hash = hasher().hash(&password("a quiet river")).await.unwrap();
    let check = async |hasher: &Hasher, hash: &PasswordHash| check(hasher, "a quiet river", hash.as_str()).await;
    assert_eq!(check(&hasher(), &hash).await, Check::Right { is_outdated: false });
    let stronger = Hasher::new(WorkFactor { memory_kib: 19_456, iterations: 3 }, 1);
    assert_eq!(check(&stronger, &hash).await, Check::Right { is_outdated: true });
    let strong = stronger.hash(&password("a quiet river")).await.unwrap();
    assert_eq!(check(&hasher(), &strong).await, Check::Right { is_outdated: false });
}

#[tokio::test]
async fn the_buffer_is_kept_and_wiped() {
    let hasher = hasher();
    for _ in 0..3 {
        hasher.hash(&password("a quiet river")).await.unwrap();
    }
    // This one takes more memory than a new hash, which is not kept.
    let larger = "$argon2id$v=19$m=65536,t=1,p=1$s6a7LqiXlxPXbE1z0oIHBg$+wztwa7Di5ndQQ5slM2cuvUcEKPCa0jVf4Jnsad0diE";
    assert_eq!(check(&hasher, "a quiet river", larger).await, Check::Wrong);
    let buffers = hasher.inner.buffers.lock().unwrap();
    assert_eq!(buffers.iter().map(Vec::len).collect::<Vec<_>>(), [19_456]);
    assert!(buffers[0].iter().all(|block| block.as_ref().iter().all(|&word| word == 0)));
}

#[test]
fn pw9_weaker_work_than_owasp_allows_is_refused() {
    for (memory_kib, iterations, is_allowed) in
        [(19_456, 2, true), (47_104, 1, true), (65_536, 3, true), (8, 1, false), (19_455, 2, false), (19_456, 1, false)]
    {
        assert_eq!(WorkFactor { memory_kib, iterations }.is_allowed(), is_allowed, "{memory_kib},{iterations}");
    }
}
