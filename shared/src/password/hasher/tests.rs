use super::*;

fn hasher() -> Hasher {
    Hasher::new(WorkFactor { memory_kib: 19_456, iterations: 2 }, 2)
}

fn password(text: &str) -> Password {
    Password::presented(text).unwrap()
}

#[tokio::test]
async fn pw9_a_hash_is_argon2id_in_phc_form_and_verifies() {
    let hasher = hasher();
    let hash = hasher.hash(&password("a quiet river")).await.unwrap();
    assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_str());
    assert!(hasher.verify(&password("a quiet river"), Some(&hash)).await.unwrap());
    assert!(!hasher.verify(&password("a quiet rivers"), Some(&hash)).await.unwrap());
    assert_ne!(hash, hasher.hash(&password("a quiet river")).await.unwrap());
}

#[tokio::test]
async fn pw9_a_hash_of_the_reference_implementation_verifies() {
    // argon2-cffi 25.1: PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
    let stored = PasswordHash::stored(REFERENCE.into());
    assert!(hasher().verify(&password("correct horse battery staple"), Some(&stored)).await.unwrap());
}

const REFERENCE: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$s6a7LqiXlxPXbE1z0oIHBg$+wztwa7Di5ndQQ5slM2cuvUcEKPCa0jVf4Jnsad0diE";

#[tokio::test]
async fn pw4_composition_is_folded_and_compatibility_is_not() {
    let hasher = hasher();
    let hash = hasher.hash(&password("cafe\u{301} ﬁn ")).await.unwrap();
    assert!(hasher.verify(&password("caf\u{e9} ﬁn "), Some(&hash)).await.unwrap());
    assert!(!hasher.verify(&password("caf\u{e9} fin "), Some(&hash)).await.unwrap());
    assert!(!hasher.verify(&password("caf\u{e9} ﬁn"), Some(&hash)).await.unwrap());
}

#[tokio::test]
async fn en2_pw12_one_hash_is_computed_whatever_is_stored() {
    let hasher = hasher();
    let hash = hasher.hash(&password("a quiet river")).await.unwrap();
    let huge = hash.as_str().replace("m=19456", "m=4194304");
    let foreign = hash.as_str().replace("argon2id", "argon2i");
    for stored in [None, Some("x"), Some(""), Some(huge.as_str()), Some(foreign.as_str())] {
        let before = hasher.computed();
        let stored = stored.map(|text| PasswordHash::stored(text.into()));
        assert!(!hasher.verify(&password("a quiet river"), stored.as_ref()).await.unwrap());
        assert_eq!(hasher.computed() - before, 1, "{stored:?}");
    }
}

#[tokio::test]
async fn pw10_less_work_than_today_makes_a_hash_outdated_and_more_does_not() {
    let hash = hasher().hash(&password("a quiet river")).await.unwrap();
    assert!(!hasher().is_outdated(&hash));
    let stronger = Hasher::new(WorkFactor { memory_kib: 19_456, iterations: 3 }, 1);
    assert!(stronger.is_outdated(&hash));
    assert!(!hasher().is_outdated(&stronger.hash(&password("a quiet river")).await.unwrap()));
    assert!(stronger.verify(&password("a quiet river"), Some(&hash)).await.unwrap());
}

#[tokio::test]
async fn the_buffer_is_kept_and_wiped() {
    let hasher = hasher();
    for _ in 0..3 {
        hasher.hash(&password("a quiet river")).await.unwrap();
    }
    let buffers = hasher.inner.buffers.lock().unwrap();
    assert_eq!(buffers.len(), 1);
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
