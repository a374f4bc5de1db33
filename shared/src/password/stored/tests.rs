use unicode_normalization::UnicodeNormalization;

use super::*;
use crate::password::Password;
use crate::password::hasher::{Check, Hasher, WorkFactor};

/// The password of hashes at the cost that each system chooses by default. Those of other
/// passwords are cheaper.
const PLAIN: &str = "correct horse battery staple";

/// A hash that another system made. testdata/README.md says how.
#[derive(Deserialize)]
struct Vector {
    from: String,
    password: String,
    hash: String,
}

fn vectors() -> Vec<Vector> {
    include_str!("../testdata/hashes.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn vector(from: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.from.starts_with(from)).unwrap()
}

fn hasher() -> Hasher {
    Hasher::new(WorkFactor { memory_kib: 19_456, iterations: 2 }, 2)
}

async fn check(hasher: &Hasher, password: &str, hash: &str) -> Check {
    let hash = PasswordHash::imported(hash.into()).unwrap();
    hasher.verify(&Password::presented(password).unwrap(), Some(&hash)).await.unwrap()
}

fn is_right(check: Check) -> bool {
    matches!(check, Check::Right { .. })
}

#[tokio::test]
async fn mi1_a_hash_of_every_form_and_origin_takes_its_password_and_no_other() {
    let hasher = hasher();
    let vectors = vectors();
    assert!(vectors.len() > 100);
    for Vector { from, password, hash } in vectors {
        let wrong = format!("x{password}");
        let (right, wrong) = tokio::join!(check(&hasher, &password, &hash), check(&hasher, &wrong, &hash));
        assert!(is_right(right), "{from} {password:?}");
        assert_eq!(wrong, Check::Wrong, "{from} {password:?}");
    }
}

/// Other systems hash the bytes that they are sent, whatever their normal form.
#[tokio::test]
async fn mi1_a_password_is_tried_as_sent_and_then_in_nfc() {
    let hasher = hasher();
    let (mut composed, mut decomposed) = (0, 0);
    for Vector { from, password, hash } in vectors().into_iter().filter(|vector| !vector.password.is_ascii()) {
        let (nfc, nfd) = (password.nfc().collect::<String>(), password.nfd().collect::<String>());
        let by_nfc = check(&hasher, &nfc, &hash).await;
        let by_nfd = check(&hasher, &nfd, &hash).await;
        if password == nfc {
            assert!(is_right(by_nfc) && is_right(by_nfd), "{from}");
            composed += 1;
        } else {
            assert_eq!((by_nfc, by_nfd), (Check::Wrong, Check::Right { is_outdated: true }), "{from}");
            decomposed += 1;
        }
    }
    assert!(composed > 20 && composed == decomposed, "{composed} {decomposed}");
}

/// bcrypt reads 72 bytes. A hash of what it read must not become one of the whole.
#[tokio::test]
async fn mi2_a_hash_is_replaced_after_the_right_password_unless_bcrypt_cut_it() {
    let hasher = hasher();
    for Vector { from, password, hash } in vectors().into_iter().filter(|vector| vector.password != PLAIN) {
        let is_plain_bcrypt = ["PHP 8.2 bcrypt", "Go bcrypt"].contains(&from.as_str());
        let is_cut = is_plain_bcrypt && (password.len() > 72 || password.contains('\0'));
        assert_eq!(check(&hasher, &password, &hash).await, Check::Right { is_outdated: !is_cut }, "{from}");
        let other_end = check(&hasher, &format!("{password}x"), &hash).await;
        assert_eq!(is_right(other_end), is_cut && password.len() > 72, "{from}");
        assert_ne!(other_end, Check::Right { is_outdated: true }, "{from}");
    }
    // For bcrypt, this password is the same as the one before the NUL, over and over.
    let hash = vector("Go bcrypt").hash;
    let repeated = format!("{PLAIN}\0{PLAIN}");
    assert_eq!(check(&hasher, &repeated, &hash).await, Check::Right { is_outdated: false });
}

/// argon2id that costs at least as much as today's is as good as it.
#[tokio::test]
async fn mi2_argon2id_of_at_least_todays_cost_stays() {
    for (from, is_outdated) in [
        ("PHP 8.2 argon2id", false),
        ("Django 5.2.19 Argon2PasswordHasher", false),
        ("PHP 8.2 argon2i", true),
        ("Keycloak argon2id", true),
    ] {
        let Vector { password, hash, .. } = vector(from);
        assert_eq!(check(&hasher(), &password, &hash).await, Check::Right { is_outdated }, "{from}");
    }
}

/// Asserts that `hash` is refused for its cost with `more` in place of `most`, and only then.
fn assert_cap(hash: &str, most: &str, more: &str) {
    assert!(hash.contains(most), "{hash}");
    assert!(PasswordHash::imported(hash.into()).is_ok(), "{hash}");
    let refused = PasswordHash::imported(hash.replace(most, more)).unwrap_err();
    assert!(matches!(refused, RefusedHash::TooCostly(_)), "{hash} {refused}");
}

#[test]
fn mi3_parameters_over_a_cap_are_refused_and_those_at_the_cap_are_not() {
    const PHC: &str = "c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA";
    let argon2 = |variant, parameters| format!("${variant}$v=19${parameters}${PHC}");
    for variant in ["argon2id", "argon2i", "argon2d"] {
        // Memory, and then memory times passes.
        assert_cap(&argon2(variant, "m=262144,t=1,p=1"), "m=262144", "m=262145");
        assert_cap(&argon2(variant, "m=262144,t=8,p=1"), "t=8", "t=9");
        assert_cap(&argon2(variant, "m=262144,t=8,p=1"), "t=8", "t=4294967295");
        assert_cap(&argon2(variant, "m=8,t=262144,p=1"), "t=262144", "t=262145");
    }
    for name in ["$2a", "$2b", "$2y", "bcrypt$$2b", "bcrypt_sha256$$2b"] {
        let hash = format!("{name}$14$t7brukJM5cnyOBZcNyzdNuDyz1PBDb2ZDhIrflw/5g/rm3s.fCL/.");
        assert_cap(&hash, "$14$", "$15$");
        assert_cap(&hash, "$14$", "$31$");
    }
    for hash in [
        format!("$pbkdf2$2000000${PHC}"),
        format!("$pbkdf2-sha256$2000000${PHC}"),
        format!("$pbkdf2-sha512$i=2000000,l=16${PHC}"),
        "pbkdf2_sha256$2000000$salt$aGFzaGhhc2hoYXNoaGFzaA==".into(),
        "pbkdf2_sha1$2000000$salt$aGFzaGhhc2hoYXNoaGFzaA==".into(),
        "pbkdf2:sha512:2000000$salt$00112233445566778899aabbccddeeff".into(),
        keycloak_pbkdf2("2000000"),
    ] {
        assert_cap(&hash, "2000000", "2000001");
        assert_cap(&hash, "2000000", "4294967295");
    }
    for (most, more) in
        [("ln=18", "ln=19"), ("ln=18", "ln=63"), ("r=8", "r=9"), ("p=1", "p=2"), ("p=1", "p=4294967295")]
    {
        assert_cap(&format!("$scrypt$ln=18,r=8,p=1${PHC}"), most, more);
    }
    assert_cap("scrypt$262144$salt$8$1$aGFzaGhhc2hoYXNoaGFzaA==", "$262144$", "$524288$");
    assert_cap("scrypt$16384$salt$8$16$aGFzaGhhc2hoYXNoaGFzaA==", "$16$", "$17$");
    assert_cap("scrypt:262144:8:1$salt$00112233445566778899aabbccddeeff", "262144", "524288");
    let firebase = format!("$fbscrypt$v=1,n=18,r=8,p=1,ss=Bw==,sk=aGFzaGhhc2hoYXNoaGFzaA==${PHC}");
    assert_cap(&firebase, "n=18", "n=19");
    let keycloak = vector("Keycloak argon2id").hash;
    assert_cap(&keycloak.replace("7168", "262144"), "262144", "262145");
    assert_cap(&keycloak.replace("7168", "262144"), "Iterations\\\":5", "Iterations\\\":9");
}

fn keycloak_pbkdf2(iterations: &str) -> String {
    vector("Keycloak pbkdf2-sha512").hash.replace("210000", iterations)
}

/// A function that checks passwords handles one request at a time.
#[test]
fn mi3_the_largest_hash_leaves_the_functions_that_check_passwords_most_of_their_memory() {
    let template = include_str!("../../../../template.yaml");
    let sizes = template.lines().filter_map(|line| line.trim().strip_suffix(" # a whole vCPU, for argon2id"));
    let sizes: Vec<u32> = sizes.map(|line| line.strip_prefix("MemorySize: ").unwrap().parse().unwrap()).collect();
    assert_eq!(sizes.len(), 5);
    assert!(sizes.iter().all(|&megabytes| megabytes * 1024 > 4 * crate::password::MAX_MEMORY_KIB), "{sizes:?}");
}

#[test]
fn mi3_what_is_not_understood_and_what_is_malformed_is_refused_by_name() {
    let refused = |hash: &str| PasswordHash::imported(hash.into()).map(drop);
    for unknown in [
        "",
        "x",
        "$",
        "$$$$",
        "hunter2",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
        "$5$rounds=5000$saltsalt$x",
        "$6$saltsalt$x",
        "$2x$10$t7brukJM5cnyOBZcNyzdNuDyz1PBDb2ZDhIrflw/5g/rm3s.fCL/.",
        "$2$10$t7brukJM5cnyOBZcNyzdNuDyz1PBDb2ZDhIrflw/5g/rm3s.fCL/.",
        "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
        "sha1$salt$5f4dcc3b5aa765d61d8327deb882cf99",
        "pbkdf2_md5$1000$salt$aGFzaGhhc2hoYXNoaGFzaA==",
        "pbkdf2:md5:1000$salt$00112233445566778899aabbccddeeff",
        "pbkdf2:sha256$salt$00112233445566778899aabbccddeeff",
        "!",
        "!Xq3vNfQbV1cTzU",
        "$ARGON2ID$v=19$m=65536,t=4,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        " $2y$10$t7brukJM5cnyOBZcNyzdNuDyz1PBDb2ZDhIrflw/5g/rm3s.fCL/.",
        &vector("Keycloak pbkdf2-sha512").hash.replace("pbkdf2-sha512", "hmac-md5"),
    ] {
        assert_eq!(refused(unknown), Err(RefusedHash::Unknown), "{unknown}");
    }
    let firebase = vector("the README").hash;
    let keycloak = vector("Keycloak argon2id").hash;
    for malformed in [
        "$2y$10$",
        "$2y$10",
        "$2y$3$t7brukJM5cnyOBZcNyzdNuDyz1PBDb2ZDhIrflw/5g/rm3s.fCL/.",
        "$2y$+9$t7brukJM5cnyOBZcNyzdNuDyz1PBDb2ZDhIrflw/5g/rm3s.fCL/.",
        "$2y$10$t7brukJM5cnyOBZcNyzdNuDyz1PBDb2ZDhIrflw/5g/rm3s.fCL/",
        "$2y$10$t7brukJM5cnyOBZcNyzdNuDyz1PBDb2ZDhIrflw/5g/rm3s.fCL/..",
        "$2y$10$t7brukJM5cnyOBZcNyzdNuDyz1PBDb2ZDhIrflw/5g/rm3s.fC=/.",
        "$2y$10$t7brukJM5cnyOBZcNyzd\u{e9}uDyz1PBDb2ZDhIrflw/5g/rm3s.fCL/.",
        "$argon2id$v=19$m=65536,t=4,p=1$c2FsdHNhbHRzYWx0",
        "$argon2id$v=18$m=65536,t=4,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=65536,t=4$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=65536,t=4,p=1,keyid=AAAA$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=65536,m=65536,t=4$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=65536,t=0,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=65536,t=4,p=0$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=7,t=4,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=65536,t=4294967296,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=65536,t=-4,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=65536,t=4,p=1$c2FsdA$aGFzaGhhc2hoYXNoaGFzaA",
        "$argon2id$v=19$m=65536,t=4,p=1$c2FsdHNhbHRzYWx0$",
        "$argon2id$v=19$m=65536,t=4,p=1$c2FsdHNhbHRzYWx0$aGFzaA",
        "$argon2id$v=19$m=65536,t=4,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA*",
        "pbkdf2_sha256$1000$salt$",
        "pbkdf2_sha256$0$salt$aGFzaGhhc2hoYXNoaGFzaA==",
        "pbkdf2_sha256$x$salt$aGFzaGhhc2hoYXNoaGFzaA==",
        "pbkdf2_sha256$1000$aGFzaGhhc2hoYXNoaGFzaA==",
        "$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
        "scrypt$16385$salt$8$1$aGFzaGhhc2hoYXNoaGFzaA==",
        "scrypt$0$salt$8$1$aGFzaGhhc2hoYXNoaGFzaA==",
        "scrypt$16384$salt$0$1$aGFzaGhhc2hoYXNoaGFzaA==",
        "scrypt$16384$salt$8$0$aGFzaGhhc2hoYXNoaGFzaA==",
        "scrypt:16384:8:1$salt$0011223344556677889+aabbccddeeff",
        "scrypt:16384:8:1$salt$00112233445566778899aabbccddeef",
        &format!("scrypt:16384:8:1$salt${}", "00".repeat(129)),
        &firebase.replace("v=1", "v=2"),
        &firebase.replace(",ss=Bw==", ""),
        &firebase.replace("lSrfV15c", "lSrf"),
        "{",
        "{}",
        "{\"secretData\":\"{}\",\"credentialData\":\"{}\"}",
        &keycloak.replace("parallelism", "lanes"),
        &keycloak.replace("1.3", "1.4"),
        &keycloak.replace("[\\\"7168\\\"]", "[]"),
    ] {
        assert!(matches!(refused(malformed), Err(RefusedHash::Malformed(_))), "{malformed}");
    }
}

/// Every beginning and every end of a hash, and every character replaced.
#[test]
fn mi3_a_damaged_hash_is_read_or_refused_and_never_panics() {
    let (mut read, mut refused) = (0, 0);
    let mut parse = |hash: &str| match Stored::parse(hash) {
        Ok(_) => read += 1,
        Err(_) => refused += 1,
    };
    for Vector { hash, .. } in vectors().into_iter().filter(|vector| vector.password == PLAIN) {
        for (place, character) in hash.char_indices() {
            let (before, after) = (&hash[..place], &hash[place + character.len_utf8()..]);
            parse(before);
            parse(after);
            for other in ["", "$", "=", ",", ":", "0", "9999999999", "\"", "\u{e9}"] {
                parse(&format!("{before}{other}{after}"));
            }
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} {refused}");
}

#[test]
fn mi3_a_refusal_says_nothing_of_the_hash() {
    for hash in ["canary", "$2y$canary$canary", "{\"secretData\":\"canary\"}", "pbkdf2_sha256$canary$canary$canary"] {
        let refused = PasswordHash::imported(hash.into()).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("canary"), "{refused:?}");
    }
}
