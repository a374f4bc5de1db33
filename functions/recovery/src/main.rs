//! Starts the function.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    freshkey::function::run_without_keys(recovery::handle, recovery::CONNECTIONS).await
}
