//! The rows of the table, read and written without the store.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{Credentials, Region};
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use freshkey::mail::MailId;

use crate::world::World;

/// The key of a row.
#[derive(Clone, Debug)]
pub struct Row {
    pk: String,
    sk: String,
}

impl Row {
    /// The row with this sort key in the user's partition, such as the user's own.
    pub fn of_user(id: &str, sk: &str) -> Self {
        Self { pk: format!("USER#{id}"), sk: sk.into() }
    }

    pub fn session(user: &str, session: &str) -> Self {
        Self::of_user(user, &format!("SESSION#{session}"))
    }

    pub fn credential(email: &str) -> Self {
        Self { pk: format!("EMAIL#{email}"), sk: "CREDENTIAL".into() }
    }

    pub fn mail(id: &MailId) -> Self {
        Self { pk: format!("MAIL#{}", id.shard), sk: id.order.clone() }
    }

    /// Sets one attribute of a row that exists.
    pub async fn set(&self, world: &World, name: &str, value: AttributeValue) {
        let call = client(world)
            .update_item()
            .table_name(world.system.table_name())
            .set_key(Some(self.key()))
            .condition_expression("attribute_exists(pk)")
            .update_expression("SET #name = :value")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":value", value);
        call.send().await.unwrap();
    }

    /// Writes a row with these attributes.
    pub async fn put(&self, world: &World, attributes: &[(&str, AttributeValue)]) {
        let call = client(world)
            .put_item()
            .table_name(world.system.table_name())
            .item("pk", AttributeValue::S(self.pk.clone()))
            .item("sk", AttributeValue::S(self.sk.clone()));
        let call = attributes.iter().fold(call, |call, (name, value)| call.item(*name, value.clone()));
        call.send().await.unwrap();
    }

    /// Writes the attributes of this row into other rows.
    pub async fn copy(&self, world: &World, rows: &[Self]) {
        let (client, table) = (client(world), world.system.table_name());
        let get = client.get_item().table_name(table).set_key(Some(self.key()));
        let item = get.send().await.unwrap().item.expect("the row exists");
        let put = |row: &Self| {
            let item = item.clone().into_iter().chain(row.key()).collect();
            WriteRequest::builder().put_request(PutRequest::builder().set_item(Some(item)).build().unwrap()).build()
        };
        for batch in rows.chunks(25) {
            let written = client.batch_write_item().request_items(table, batch.iter().map(put).collect()).send().await;
            assert!(written.unwrap().unprocessed_items.is_none_or(|items| items.is_empty()));
        }
    }

    fn key(&self) -> HashMap<String, AttributeValue> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        HashMap::from([("pk".to_owned(), text(&self.pk)), ("sk".to_owned(), text(&self.sk))])
    }

    /// Whether the row exists.
    pub async fn exists(&self, world: &World) -> bool {
        let call = client(world)
            .get_item()
            .table_name(world.system.table_name())
            .consistent_read(true)
            .set_key(Some(self.key()));
        call.send().await.unwrap().item.is_some()
    }

    /// The keys of every row, sorted.
    pub async fn keys(world: &World) -> Vec<(String, String)> {
        let mut keys = Vec::new();
        let mut pages = client(world).scan().table_name(world.system.table_name()).into_paginator().items().send();
        while let Some(item) = pages.next().await {
            let item = item.unwrap();
            let text = |name: &str| item[name].as_s().unwrap().clone();
            keys.push((text("pk"), text("sk")));
        }
        keys.sort_unstable();
        keys
    }
}

/// A separate client, whose calls do not appear on the world's wire.
fn client(world: &World) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version_latest()
        .endpoint_url(world.system.table_endpoint())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "a test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}
