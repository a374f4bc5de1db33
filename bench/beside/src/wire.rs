//! An embedded DynamoDB behind a relay that keeps all that is sent to it, to count calls.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{Process, Usage};
use crate::statements::Statements;

/// What comes before the name of the operation in each call to DynamoDB.
const TARGET: &str = "x-amz-target: DynamoDB_20120810.";

/// The DynamoDB, and the relay.
pub struct Wire {
    process: Process,
    url: String,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    /// Starts a relay to the DynamoDB that `process` offers on `port`.
    pub async fn start(process: Process, port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, port, Arc::clone(&kept)));
            }
        });
        Self { process, url, sent }
    }

    /// The address of the relay.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the DynamoDB uses.
    pub fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// All that was ever sent.
    pub fn sent(&self) -> String {
        String::from_utf8_lossy(&self.sent.lock().unwrap()).into_owned()
    }

    /// The calls after the first `bytes`, and how many of them make an item.
    pub fn statements_since(&self, bytes: usize) -> (Statements, usize) {
        count(&self.sent()[bytes..])
    }
}

async fn relay(client: TcpStream, port: u16, sent: Arc<Mutex<Vec<u8>>>) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let (mut client_reads, mut client_writes) = client.into_split();
    let (mut server_reads, mut server_writes) = server.into_split();
    tokio::spawn(async move { copy(&mut server_reads, &mut client_writes).await });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = client_reads.read(&mut buffer).await?;
        if length == 0 {
            return server_writes.shutdown().await;
        }
        sent.lock().unwrap().extend_from_slice(&buffer[..length]);
        server_writes.write_all(&buffer[..length]).await?;
    }
}

/// Counts calls, and those that make an item, without those of the mailer, which looks for mail every minute.
fn count(sent: &str) -> (Statements, usize) {
    let calls = sent.split(TARGET).skip(1).filter(|call| !call.contains("MAIL#"));
    let (mut count, mut made) = (Statements::default(), 0);
    for call in calls {
        match call.split_whitespace().next().unwrap_or_default() {
            "BatchGetItem" | "GetItem" | "Query" | "Scan" => count.reads += 1,
            "DeleteItem" | "UpdateItem" => count.writes += 1,
            "PutItem" | "TransactWriteItems" => {
                count.writes += 1;
                made += 1;
            }
            _ => {}
        }
    }
    (count, made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_what_they_do() {
        let call = |name: &str, body: &str| format!("POST / HTTP/1.1\r\n{TARGET}{name}\r\nx: y\r\n\r\n{body}");
        let sent = [
            call("DescribeTable", "{}"),
            call("GetItem", r#"{"pk":{"S":"USER#1"}}"#),
            call("UpdateItem", r#"{"pk":{"S":"USER#1"}}"#),
            call("PutItem", r#"{"pk":{"S":"USER#1"}}"#),
            call("Query", r#"{"pk":{"S":"MAIL#1"}}"#),
        ];
        assert_eq!(count(&sent.concat()), (Statements { reads: 1, writes: 2, transactions: 0 }, 1));
    }
}
