//! Starts the function.

#[tokio::main]
async fn main() -> Result<(), mailer::Error> {
    mailer::run().await
}
