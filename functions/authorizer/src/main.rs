//! Starts the function.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    freshkey::function::run_authorizer(authorizer::handle, authorizer::CONNECTIONS).await
}
