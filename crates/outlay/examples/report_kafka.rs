//! Reports a usage event over Kafka.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let event = json!({
        "id": "chatcmpl-rust-kafka", "source": "my-app", "time": chrono::Utc::now().to_rfc3339(),
        "namespace": "research", "team": "agents", "provider": "openai", "model": "gpt-5.1",
        "tokens": {"input": 900, "cache_read": 300, "output": 80, "reasoning": 40},
    });
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", std::env::var("OUTLAY_KAFKA")?).create()?;
    let text = event.to_string();
    let record = FutureRecord::<(), _>::to("usage.events").payload(&text);
    producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error)?;
    Ok(())
}
