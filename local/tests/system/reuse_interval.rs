//! REFRESH_REUSE_INTERVAL_SECONDS above 0, on the real table.

use futures_util::future::join_all;
use http::StatusCode;

use crate::world::{World, claims, signed_up_with};

const INTERVAL: [(&str, &str); 1] = [("REFRESH_REUSE_INTERVAL_SECONDS", "10")];

async fn refreshed(world: &World, token: &str) -> String {
    world.refresh(token).await.expect(StatusCode::OK).text("refresh_token")
}

#[tokio::test]
async fn rf3_a_session_that_never_rotated_rotates_at_once() {
    let (world, alice) = signed_up_with(&INTERVAL).await;
    let second = refreshed(&world, &alice.refresh_token).await;
    assert_eq!(claims(&second)["gen"], 2);
    // The interval runs: the predecessor gets the successor, and the successor gets itself.
    assert_eq!(refreshed(&world, &alice.refresh_token).await, second);
    assert_eq!(refreshed(&world, &second).await, second);
    world.pass(11);
    assert_eq!(claims(&refreshed(&world, &second).await)["gen"], 3);
}

#[tokio::test]
async fn rf3_a_burst_right_after_the_login_gets_one_successor() {
    let (world, alice) = signed_up_with(&INTERVAL).await;
    let burst = join_all((0..20).map(|_| refreshed(&world, &alice.refresh_token))).await;
    assert!(burst.iter().all(|token| *token == burst[0]));
    assert_eq!(claims(&burst[0])["gen"], 2);
}
