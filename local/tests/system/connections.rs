//! The connections to DynamoDB, counted as they arrive there.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use local::{LocalClock, Options, System, TEMPLATE};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::wire::Wire;
use crate::world::{EMAIL, PASSWORD, World, world_with};

/// A door in front of a DynamoDB. It counts the connections that pass through.
struct Door {
    url: String,
    opened: Arc<AtomicUsize>,
}

impl Door {
    async fn to(endpoint: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behind = endpoint.strip_prefix("http://").unwrap().to_owned();
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let behind = behind.clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(behind).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { url, opened }
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

/// Another system on the same table, with the HTTP client of the functions and a door.
async fn through_a_door(world: &World, secret: (&str, &str)) -> (World, Door) {
    let door = Door::to(world.system.table_endpoint()).await;
    let variables = [secret, ("TABLE_NAME", world.system.table_name())];
    let options = Options {
        template: TEMPLATE.into(),
        data: None,
        table_endpoint: Some(door.url.clone()),
        allow_origins: Vec::new(),
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        clock: LocalClock::new(world.clock.clone()),
        http_client: None,
    };
    let system = Arc::new(System::start(options).await.unwrap());
    (World { system, clock: world.clock.clone(), wire: Wire::new(), delivery: world.delivery }, door)
}

#[tokio::test]
async fn the_first_request_of_a_function_opens_no_connection() {
    let secret = ("JWT_SECRET_KEY", "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ");
    let world = world_with(&[secret]).await;
    let alice = world.register(EMAIL).await;
    let (world, door) = through_a_door(&world, secret).await;

    let bob = json!({ "email": "bob@example.com", "password": PASSWORD });
    let login = json!({ "email": EMAIL, "password": PASSWORD });
    let token = json!({ "refresh_token": alice.refresh_token });
    for (function, connections, request) in [
        ("account", account::CONNECTIONS, world.get("/api/v1/users/me").bearer(&alice.access_token)),
        ("keys", keys::CONNECTIONS, world.get("/.well-known/jwks.json")),
        ("login", login::CONNECTIONS, world.post("/api/v1/auth/login", login)),
        ("refresh", refresh::CONNECTIONS, world.post("/api/v1/auth/refresh", token.clone())),
        ("logout", logout::CONNECTIONS, world.post("/api/v1/auth/logout", token)),
        ("register", register::CONNECTIONS, world.post("/api/v1/auth/register", bob)),
    ] {
        let before = door.opened();
        world.app(function).store().open_connections(connections).await;
        assert_eq!(door.opened(), before + connections, "{function}");
        let reply = request.await;
        assert!(reply.status.is_success(), "{function}: {}", reply.text);
        assert_eq!(door.opened(), before + connections, "{function}");
    }
}
