//! Your own function behind Freshkey: `GET /notes` for every signed-in user, and
//! `GET /admin` for administrators.

use freshkey::App;
use freshkey::auth::Identity;
use freshkey::layer::Authenticate;
use lambda_http::tower::{Layer, ServiceExt};
use lambda_http::{Error, Request, RequestExt, run, service_fn};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let users = Authenticate::new(App::from_env().await?);
    let admins = users.clone().require_role("ROLE_ADMIN");
    run(service_fn(move |request: Request| {
        let layer = if request.raw_http_path() == "/admin" { &admins } else { &users };
        layer.layer(service_fn(answer)).oneshot(request)
    }))
    .await
}

async fn answer(request: Request) -> Result<Value, Error> {
    let caller = request.extensions().get::<Identity>().ok_or("the layer is not mounted")?;
    Ok(json!({ "user_id": caller.user_id.to_string(), "roles": caller.roles }))
}
