//! Starts the function.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    freshkey::function::run(logout::handle, logout::CONNECTIONS).await
}
