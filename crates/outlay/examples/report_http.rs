//! Reports a usage event over HTTP.

use serde_json::json;

fn main() -> anyhow::Result<()> {
    let event = json!({
        "id": "chatcmpl-rust-http", "source": "my-app", "time": chrono::Utc::now().to_rfc3339(),
        "namespace": "research", "team": "agents", "provider": "openai", "model": "gpt-5.1",
        "tokens": {"input": 900, "cache_read": 300, "output": 80, "reasoning": 40},
    });
    let answer = reqwest::blocking::Client::new()
        .post(format!("{}/v1/events", std::env::var("OUTLAY_URL")?))
        .bearer_auth(std::env::var("OUTLAY_ADMIN_KEY")?)
        .json(&event)
        .send()?;
    anyhow::ensure!(answer.status() == 202, "{}: {}", answer.status(), answer.text()?);
    Ok(())
}
