//! Limits on guesses: they slow down the guesser and not the owner.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::{self, StreamExt};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::wire::Fate;
use crate::world::{EMAIL, PASSWORD, Reply, Sending, World, claims, signed_up_with, world_with};

pub const LOGIN: &str = "/api/v1/auth/login";
pub const REGISTER: &str = "/api/v1/auth/register";
pub const WRONG: &str = "not her password";
pub const HOUR: u64 = 3600;
pub const MONTH: u64 = 30 * 24 * HOUR;
pub const HERE: &str = "192.0.2.1";
pub const ELSEWHERE: &str = "198.51.100.7";

/// The template's limits. Those of the local system are far higher.
const LIMITS: [(&str, &str); 5] = [
    ("LIMIT_FREE_GUESSES", "5"),
    ("LIMIT_GUESSES", "100"),
    ("LIMIT_FAILURES_PER_ADDRESS", "100"),
    ("LIMIT_ACCOUNTS_PER_ADDRESS", "20"),
    ("LIMIT_REGISTRATIONS_PER_ADDRESS", "20"),
];

/// The template's limits with these changes.
pub fn limits(changes: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut limits = BTreeMap::from(LIMITS);
    limits.extend(changes.iter().copied());
    limits.into_iter().collect()
}

/// A system with these limits, and the device token of a user who has registered.
pub async fn guarded(changes: &[(&'static str, &'static str)]) -> (World, String) {
    let world = world_with(&limits(changes)).await;
    let body = json!({ "email": EMAIL, "password": PASSWORD });
    let device_token = world.post(REGISTER, body).await.expect(StatusCode::CREATED).text("device_token");
    (world, device_token)
}

pub fn login<'a>(world: &'a World, email: &str, password: &str) -> Sending<'a> {
    world.post(LOGIN, json!({ "email": email, "password": password }))
}

pub fn on_device<'a>(world: &'a World, device_token: &str, password: &str) -> Sending<'a> {
    login(world, EMAIL, password).header("x-device-token", device_token)
}

/// Guesses a wrong password `times` times, and gets a 401 each time.
pub async fn guess(world: &World, times: usize) {
    for _ in 0..times {
        world.login(WRONG).await.expect(StatusCode::UNAUTHORIZED);
    }
}

/// The seconds that a client over a limit is told to wait.
#[track_caller]
pub fn wait(reply: Reply) -> u64 {
    let reply = reply.expect(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    assert_eq!(reply.error(), "rate_limited");
    reply.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

pub fn hashes(world: &World) -> u64 {
    ["login", "register", "account"].map(|function| world.app(function).hasher().computed()).iter().sum()
}

#[tokio::test]
async fn rl1_rl2_after_five_wrong_passwords_each_has_to_wait_longer_and_costs_no_hash_before() {
    let (world, _) = guarded(&[]).await;
    guess(&world, 5).await;
    let before = hashes(&world);
    for pause in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
        assert_eq!(wait(world.login(WRONG).await), pause);
        world.pass(pause - 1);
        assert_eq!(wait(world.login(PASSWORD).await), 1);
        world.pass(1);
        guess(&world, 1).await;
    }
    assert_eq!(hashes(&world), before + 9);
}

#[tokio::test]
async fn rl1_a_right_password_starts_the_count_anew() {
    let (world, _) = guarded(&[]).await;
    for _ in 0..3 {
        guess(&world, 4).await;
        world.login(PASSWORD).await.expect(StatusCode::OK);
    }
    guess(&world, 5).await;
    assert_eq!(wait(world.login(PASSWORD).await), 30);
    world.pass(30);
    world.login(PASSWORD).await.expect(StatusCode::OK);
    guess(&world, 5).await;
}

#[tokio::test]
async fn rl1_after_the_most_failures_only_known_devices_may_guess() {
    let (world, device_token) = guarded(&[("LIMIT_GUESSES", "7")]).await;
    guess(&world, 5).await;
    for pause in [30, 60] {
        world.pass(pause);
        guess(&world, 1).await;
    }
    world.pass(2 * HOUR);
    let rest = wait(world.login(PASSWORD).await);
    assert!((1..=MONTH).contains(&rest), "{rest}");
    on_device(&world, &device_token, PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(wait(world.login(PASSWORD).await), rest);
    world.pass(rest);
    world.login(PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl1_a_wrong_current_password_counts_like_one_at_the_login() {
    let (world, alice) = signed_up_with(&limits(&[])).await;
    let change = |current: &str, device_token: &str| {
        let body = json!({ "current_password": current, "new_password": "another river under nine bridges" });
        let request = world.request(Method::PUT, "/api/v1/users/me/password").json(body).bearer(&alice.access_token);
        request.header("x-device-token", device_token)
    };
    let delete = |password: &str| {
        let request = world.post("/api/v1/users/me/delete", json!({ "password": password }));
        request.bearer(&alice.access_token)
    };
    let device_token = world.login(PASSWORD).await.text("device_token");
    for _ in 0..2 {
        change(WRONG, "").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        delete(WRONG).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    }
    guess(&world, 1).await;
    let before = hashes(&world);
    assert_eq!(wait(world.login(PASSWORD).await), 30);
    assert_eq!(wait(change(PASSWORD, "").await), 30);
    assert_eq!(wait(delete(PASSWORD).await), 30);
    assert_eq!(hashes(&world), before);
    change(PASSWORD, &device_token).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn rl1_a_right_current_password_is_given_back() {
    let (world, alice) = signed_up_with(&limits(&[])).await;
    let (mut current, mut new) = (PASSWORD, "another river under nine bridges");
    for _ in 0..8 {
        let body = json!({ "current_password": current, "new_password": new });
        let request = world.request(Method::PUT, "/api/v1/users/me/password").json(body);
        request.bearer(&alice.access_token).await.expect(StatusCode::NO_CONTENT);
        std::mem::swap(&mut current, &mut new);
    }
}

/// Makes 200 guesses at one account, `at_a_time` at once, and returns how often each
/// status was answered.
async fn flood(world: &World, at_a_time: usize) -> BTreeMap<u16, usize> {
    let guesses = (0..200).map(|number| login(world, EMAIL, WRONG).from(&format!("203.0.113.{number}")).into_future());
    let mut statuses = BTreeMap::new();
    for reply in stream::iter(guesses).buffer_unordered(at_a_time).collect::<Vec<_>>().await {
        *statuses.entry(reply.status.as_u16()).or_default() += 1;
    }
    statuses
}

#[tokio::test]
async fn rl1_rl5_200_parallel_guesses_cost_at_most_five_hashes_and_the_owners_device_still_gets_in() {
    let (world, device_token) = guarded(&[]).await;
    let before = hashes(&world);
    let mut statuses = flood(&world, 200).await;
    let hashed = hashes(&world) - before;
    assert!(hashed <= 5, "{hashed}");
    // On a small machine the table may be too slow for this many at once: hence 503.
    assert_eq!(statuses.remove(&401).unwrap_or_default() as u64, hashed);
    assert!(statuses.keys().all(|status| [429, 503].contains(status)), "{statuses:?}");
    on_device(&world, &device_token, PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl1_rl5_200_guesses_ten_at_a_time_cost_five_hashes_and_the_owners_device_still_gets_in() {
    let (world, device_token) = guarded(&[]).await;
    let before = hashes(&world);
    assert_eq!(flood(&world, 10).await, BTreeMap::from([(401, 5), (429, 195)]));
    assert_eq!(hashes(&world), before + 5);
    assert_eq!(wait(login(&world, EMAIL, PASSWORD).from(ELSEWHERE).await), 30);
    on_device(&world, &device_token, PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl1_a_known_device_has_a_count_of_its_own() {
    let (world, device_token) = guarded(&[]).await;
    for _ in 0..5 {
        on_device(&world, &device_token, WRONG).await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(wait(on_device(&world, &device_token, PASSWORD).await), 30);
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).text("device_token");
    on_device(&world, &other, PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(wait(on_device(&world, &device_token, PASSWORD).await), 30);
    world.pass(30);
    on_device(&world, &device_token, PASSWORD).await.expect(StatusCode::OK);
    on_device(&world, &device_token, WRONG).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rl1_a_device_without_a_valid_token_of_this_user_gets_one() {
    let (world, alices) = guarded(&[]).await;
    let register = |email: &str, device_token: &str| {
        let request = world.post(REGISTER, json!({ "email": email, "password": PASSWORD }));
        request.header("x-device-token", device_token)
    };
    let device_token = |reply: Reply| reply.json()["device_token"].as_str().map(str::to_owned);
    let bobs = device_token(register("bob@example.com", &alices).await.expect(StatusCode::CREATED)).unwrap();
    assert_ne!(bobs, alices);
    assert_eq!(device_token(on_device(&world, &alices, PASSWORD).await.expect(StatusCode::OK)), None);
    let refresh_token = world.login(PASSWORD).await.text("refresh_token");
    for other in ["", "x", "a.b.c", &bobs, &refresh_token, &format!("{alices}x")] {
        let given = device_token(on_device(&world, other, PASSWORD).await.expect(StatusCode::OK)).unwrap();
        assert_eq!(claims(&given)["sub"], claims(&alices)["sub"], "{other}");
        assert_ne!(claims(&given)["jti"], claims(&alices)["jti"], "{other}");
    }
    world.pass(365 * 24 * HOUR);
    assert!(device_token(on_device(&world, &alices, PASSWORD).await.expect(StatusCode::OK)).is_some());
}

#[tokio::test]
async fn rl1_the_lexik_route_counts_alike_and_gives_and_honours_a_device_token() {
    let (world, _) = guarded(&[]).await;
    let lexik = |password: &str| world.post("/api/auth", json!({ "email": EMAIL, "password": password }));
    let given = lexik(PASSWORD).await.expect(StatusCode::OK).text("device_token");
    let known = lexik(PASSWORD).header("x-device-token", &given).await.expect(StatusCode::OK);
    assert_eq!(known.json().get("device_token"), None);
    for _ in 0..5 {
        lexik(WRONG).await.expect(StatusCode::UNAUTHORIZED);
    }
    let limited = lexik(PASSWORD).await.expect(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!((&limited.json()["code"], &limited.headers["retry-after"]), (&json!(429), &"30".parse().unwrap()));
    lexik(PASSWORD).header("x-device-token", &given).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl1_with_cookies_the_device_token_is_a_cookie_of_its_own() {
    let world = world_with(&limits(&[("REFRESH_TOKEN_TRANSPORT", "cookie")])).await;
    let request = |path: &str, password: &str, cookie: &str| {
        let request = world.post(path, json!({ "email": EMAIL, "password": password })).header("cookie", cookie);
        request.header("origin", "https://app.example.com").header("x-requested-with", "fetch")
    };
    let given = |reply: &Reply| {
        let lines = reply.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap().to_owned());
        lines.filter(|line| line.starts_with("__Host-device_token=")).collect::<Vec<_>>()
    };
    let reply = request(REGISTER, PASSWORD, "").await.expect(StatusCode::CREATED);
    let [line] = given(&reply).try_into().unwrap();
    let (cookie, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "HttpOnly; Secure; SameSite=Strict; Path=/; Max-Age=34560000");
    assert!(!reply.text.contains("device_token"), "{}", reply.text);
    for _ in 0..5 {
        request(LOGIN, WRONG, "").await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(wait(request(LOGIN, PASSWORD, "").await), 30);
    let reply = request(LOGIN, PASSWORD, cookie).await.expect(StatusCode::OK);
    assert!(given(&reply).is_empty());
    let token = cookie.split_once('=').unwrap().1;
    assert_eq!(wait(request(LOGIN, PASSWORD, "").header("x-device-token", token).await), 30);
}

#[tokio::test]
async fn rl1_a_device_token_of_another_account_does_not_help() {
    let (world, _) = guarded(&[]).await;
    let body = json!({ "email": "mallory@example.com", "password": PASSWORD });
    let mallorys = world.post(REGISTER, body).await.expect(StatusCode::CREATED).text("device_token");
    guess(&world, 5).await;
    assert_eq!(wait(on_device(&world, &mallorys, WRONG).await), 30);
}

/// A reply without the parts that differ between any two.
pub fn told(reply: Reply) -> (StatusCode, Vec<(String, String)>, Value) {
    let mut body = reply.json();
    body.as_object_mut().unwrap().remove("request_id");
    let headers = reply.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let headers = headers.filter(|(name, _)| name != "content-length").collect();
    (reply.status, headers, body)
}

#[tokio::test]
async fn en5_a_limit_says_the_same_of_an_account_that_exists_and_of_one_that_does_not() {
    let (world, _) = guarded(&[]).await;
    for pause in [0, 0, 0, 0, 0, 0, 10, 20, 0, 60] {
        world.pass(pause);
        let known = told(login(&world, EMAIL, WRONG).from(HERE).await);
        let unknown = told(login(&world, "nobody@example.com", WRONG).from(ELSEWHERE).await);
        assert_eq!(known, unknown);
    }
    assert_eq!(wait(login(&world, "nobody@example.com", WRONG).await), 120);
}

#[tokio::test]
async fn rl3_failures_are_counted_by_ipv4_address_whatever_a_header_says() {
    let (world, _) = guarded(&[("LIMIT_FAILURES_PER_ADDRESS", "3")]).await;
    let guess = |number: usize| {
        let request = login(&world, EMAIL, WRONG).from(HERE).header("x-forwarded-for", &format!("203.0.113.{number}"));
        request.header("true-client-ip", &format!("203.0.113.{number}")).header("x-origin-verify", "")
    };
    for number in 0..3 {
        guess(number).await.expect(StatusCode::UNAUTHORIZED);
    }
    let rest = wait(guess(3).await);
    assert!((1..=HOUR).contains(&rest), "{rest}");
    login(&world, EMAIL, WRONG).from(ELSEWHERE).await.expect(StatusCode::UNAUTHORIZED);
    world.pass(rest);
    guess(4).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rl3_failures_are_counted_by_ipv6_network_of_64_bits() {
    let (world, _) = guarded(&[("LIMIT_FAILURES_PER_ADDRESS", "3")]).await;
    for host in 0..3 {
        let from = format!("2001:db8:1:2:{host}::1");
        login(&world, EMAIL, WRONG).from(&from).await.expect(StatusCode::UNAUTHORIZED);
    }
    wait(login(&world, EMAIL, PASSWORD).from("2001:db8:1:2:ffff::1").await);
    login(&world, EMAIL, PASSWORD).from("2001:db8:1:3::1").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl3_behind_a_proxy_that_proves_itself_the_viewer_is_counted() {
    const PROVEN: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
    let (world, _) = guarded(&[("LIMIT_FAILURES_PER_ADDRESS", "1"), ("TRUSTED_PROXY_SECRET", PROVEN)]).await;
    let through = |proof: &str, viewer: &str, password: &str| {
        let request = login(&world, EMAIL, password).from(HERE).header("x-origin-verify", proof);
        request.header("true-client-ip", viewer)
    };
    through(PROVEN, "203.0.113.1", WRONG).await.expect(StatusCode::UNAUTHORIZED);
    wait(through(PROVEN, "203.0.113.1", WRONG).await);
    through("not proven", "203.0.113.2", WRONG).await.expect(StatusCode::UNAUTHORIZED);
    wait(through("not proven", "203.0.113.3", WRONG).await);
    let alice = through(PROVEN, "203.0.113.4", PASSWORD).await.expect(StatusCode::OK).user();
    let sessions = world.get("/api/v1/auth/sessions").bearer(&alice.access_token).await.expect(StatusCode::OK).json();
    let current = sessions["sessions"].as_array().unwrap().iter().find(|session| session["current"] == true);
    assert_eq!(current.unwrap()["ip"], "203.0.113.4");
}

#[tokio::test]
async fn rl3_attempts_from_an_address_over_its_limit_do_not_count_at_the_account() {
    let (world, _) = guarded(&[("LIMIT_FAILURES_PER_ADDRESS", "1")]).await;
    login(&world, "nobody@example.com", WRONG).from(HERE).await.expect(StatusCode::UNAUTHORIZED);
    for _ in 0..10 {
        assert!(wait(login(&world, EMAIL, WRONG).from(HERE).await) > 60);
    }
    for number in 0..5 {
        let from = format!("203.0.113.{number}");
        login(&world, EMAIL, WRONG).from(&from).await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(wait(login(&world, EMAIL, WRONG).from(ELSEWHERE).await), 30);
}

#[tokio::test]
async fn rl3_attempts_from_an_address_over_its_limit_start_no_pause_at_the_account() {
    let (world, _) = guarded(&[("LIMIT_FAILURES_PER_ADDRESS", "1")]).await;
    login(&world, "nobody@example.com", WRONG).from(HERE).await.expect(StatusCode::UNAUTHORIZED);
    for number in 0..6 {
        login(&world, EMAIL, WRONG).from(&format!("203.0.113.{number}")).await;
    }
    world.pass(31);
    wait(login(&world, EMAIL, WRONG).from(HERE).await);
    login(&world, EMAIL, PASSWORD).from(ELSEWHERE).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl3_guesses_that_a_paused_account_refuses_do_not_count_at_the_address() {
    let (world, _) = guarded(&[("LIMIT_FAILURES_PER_ADDRESS", "6")]).await;
    for _ in 0..5 {
        login(&world, EMAIL, WRONG).from(HERE).await.expect(StatusCode::UNAUTHORIZED);
    }
    for _ in 0..10 {
        assert_eq!(wait(login(&world, EMAIL, WRONG).from(HERE).await), 30);
    }
    login(&world, "nobody@example.com", WRONG).from(HERE).await.expect(StatusCode::UNAUTHORIZED);
    assert!(wait(login(&world, "nobody@example.com", WRONG).from(HERE).await) > 30);
}

#[tokio::test]
async fn rl4_leaked_passwords_can_be_tried_at_twenty_accounts_from_one_address_in_an_hour() {
    let (world, device_token) = guarded(&[]).await;
    let stuff = |number: usize| login(&world, &format!("user-{number}@example.com"), WRONG).from(HERE);
    for number in 0..20 {
        stuff(number).await.expect(StatusCode::UNAUTHORIZED);
    }
    let before = hashes(&world);
    let mut rest = 0;
    for number in 20..50 {
        rest = wait(stuff(number).await);
        assert!((1..=HOUR).contains(&rest), "{rest}");
    }
    assert_eq!(hashes(&world), before);
    stuff(0).await.expect(StatusCode::UNAUTHORIZED);
    wait(login(&world, EMAIL, PASSWORD).from(HERE).await);
    on_device(&world, &device_token, PASSWORD).from(HERE).await.expect(StatusCode::OK);
    login(&world, EMAIL, PASSWORD).from(ELSEWHERE).await.expect(StatusCode::OK);
    world.pass(rest);
    stuff(20).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rl4_users_who_share_an_address_and_know_their_passwords_do_not_fill_it() {
    let (world, _) = guarded(&[("LIMIT_ACCOUNTS_PER_ADDRESS", "2"), ("LIMIT_FAILURES_PER_ADDRESS", "2")]).await;
    for number in 0..4 {
        let email = format!("user-{number}@example.com");
        world.register(&email).await;
        for _ in 0..2 {
            login(&world, &email, PASSWORD).await.expect(StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn en3_registrations_are_counted_by_address_before_the_hash() {
    let (world, _) = guarded(&[("LIMIT_REGISTRATIONS_PER_ADDRESS", "3")]).await;
    let register = |email: &str| {
        let body = json!({ "email": email, "password": PASSWORD });
        world.post(REGISTER, body).from(ELSEWHERE)
    };
    register("bob@example.com").await.expect(StatusCode::CREATED);
    register(EMAIL).await.expect(StatusCode::CONFLICT);
    register("carol@example.com").await.expect(StatusCode::CREATED);
    let before = hashes(&world);
    let rest = wait(register(EMAIL).await);
    assert_eq!(wait(register("dave@example.com").await), rest);
    assert!((1..=HOUR).contains(&rest), "{rest}");
    assert_eq!(hashes(&world), before);
    world.register("erin@example.com").await;
    world.pass(rest);
    register("dave@example.com").await.expect(StatusCode::CREATED);
}

/// Lets calls to counters fail with this error, and all others pass.
fn break_counters(world: &World, status: u16, code: &'static str) {
    world.wire.on_call(move |call| {
        let is_counter = call.body["Key"]["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with("LIMIT#"));
        let fate = if is_counter { Fate::Refused(status, code) } else { Fate::Pass };
        async move { fate }
    });
}

#[tokio::test]
async fn rl5_where_a_counter_cannot_be_written_nothing_is_let_through_and_no_password_hashed() {
    let (world, _) = guarded(&[]).await;
    let before = hashes(&world);
    for (status, code, expected, error) in [
        (400, "ProvisionedThroughputExceededException", StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
        (400, "ThrottlingException", StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
        (500, "InternalServerError", StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        (400, "AccessDeniedException", StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
    ] {
        break_counters(&world, status, code);
        let register = json!({ "email": "bob@example.com", "password": PASSWORD });
        for reply in [world.login(PASSWORD).await, world.login(WRONG).await, world.post(REGISTER, register).await] {
            let reply = reply.expect(expected);
            assert_eq!(reply.error(), error, "{code}");
            assert_eq!(reply.headers["retry-after"], "1", "{code}");
        }
    }
    assert_eq!(hashes(&world), before);
    world.wire.heal();
    guess(&world, 5).await;
}

#[tokio::test]
async fn rl5_an_outage_costs_no_guesses() {
    let (world, _) = guarded(&[]).await;
    for operation in ["GetItem", "Query", "PutItem"] {
        for _ in 0..6 {
            world.wire.fault(operation, 1, Fate::Refused(400, "AccessDeniedException"));
            world.login(PASSWORD).await.expect(StatusCode::SERVICE_UNAVAILABLE);
        }
    }
    world.wire.heal();
    guess(&world, 5).await;
    assert_eq!(wait(world.login(WRONG).await), 30);
}

#[tokio::test]
async fn rl5_an_outage_after_the_free_guesses_starts_no_new_pause() {
    let (world, _) = guarded(&[]).await;
    guess(&world, 5).await;
    world.pass(30);
    world.wire.fault("Query", 1, Fate::Refused(400, "AccessDeniedException"));
    world.login(PASSWORD).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    world.wire.heal();
    world.login(PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl5_a_guess_that_cannot_be_given_back_stays_counted_and_the_login_succeeds() {
    let (world, _) = guarded(&[]).await;
    guess(&world, 4).await;
    world.wire.fault("DeleteItem", 1, Fate::Refused(400, "AccessDeniedException"));
    world.login(PASSWORD).await.expect(StatusCode::OK);
    world.wire.heal();
    assert_eq!(wait(world.login(PASSWORD).await), 30);
}

/// Sets `fate` for the next write of a counter whose key begins with `name`. All
/// other calls pass.
fn meet_counter(world: &World, name: &'static str, fate: Fate) {
    let is_met = AtomicBool::new(false);
    world.wire.on_call(move |call| {
        let pk = call.body["Key"]["pk"]["S"].as_str().unwrap_or_default();
        let is_it = pk.starts_with(name) && !is_met.swap(true, Ordering::Relaxed);
        let fate = if is_it { fate.clone() } else { Fate::Pass };
        async move { fate }
    });
}

#[tokio::test]
async fn rl1_re2_a_guess_whose_count_was_written_and_not_answered_is_counted_once_and_made() {
    let (world, device_token) = guarded(&[]).await;
    // This guess is one of the free ones, where the repeated write would pass.
    guess(&world, 3).await;
    meet_counter(&world, "LIMIT#account#", Fate::AnswerLost);
    guess(&world, 1).await;
    world.wire.heal();
    guess(&world, 1).await;
    assert_eq!(wait(world.login(PASSWORD).await), 30);

    // This one comes after them, where the repeated write would fall into the pause
    // that the first write began.
    world.pass(30);
    meet_counter(&world, "LIMIT#account#", Fate::AnswerLost);
    world.login(PASSWORD).await.expect(StatusCode::OK);
    world.wire.heal();

    for _ in 0..5 {
        on_device(&world, &device_token, WRONG).await.expect(StatusCode::UNAUTHORIZED);
    }
    world.pass(30);
    meet_counter(&world, "LIMIT#device#", Fate::AnswerLost);
    on_device(&world, &device_token, PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl5_a_counter_carries_the_time_at_which_the_table_forgets_it() {
    let (world, _) = guarded(&[]).await;
    world.wire.take();
    guess(&world, 1).await;
    let now = u64::try_from(world.now().seconds()).unwrap();
    let calls = world.wire.take().calls;
    let mut ends: Vec<u64> = calls
        .iter()
        .filter_map(|call| call.body["ExpressionAttributeValues"][":expires_at"]["N"].as_str()?.parse().ok())
        .map(|end: u64| end - now)
        .collect();
    ends.sort_unstable();
    let [address, account] = ends[..] else { panic!("{ends:?}") };
    assert!((1..=HOUR).contains(&address) && (HOUR..=MONTH).contains(&account), "{ends:?}");
}
