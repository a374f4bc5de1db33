//! Starts the function.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    freshkey::function::run(refresh::handle, refresh::CONNECTIONS).await
}
