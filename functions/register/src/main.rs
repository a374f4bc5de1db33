//! Starts the function.

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    freshkey::function::run(register::handle, register::CONNECTIONS).await
}
