//! Serves the page and the API with made-up data, for working on the page: `cargo run -p http-api --example fake_server`.

#![allow(clippy::unwrap_used, reason = "made-up data")]

#[path = "../tests/http/fake.rs"]
mod fake;

use std::sync::Arc;

use http_api::{HttpConfig, Secret, Server};

#[tokio::main]
async fn main() -> Result<(), http_api::HttpError> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8099);
    let config = HttpConfig::new(([127, 0, 0, 1], port).into(), Secret::new("fake-admin-key"));
    let engine = Arc::new(fake::FakeEngine::default());
    let decider = Arc::clone(&engine);
    tokio::spawn(async move {
        for seq in 1.. {
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            decider.decide(fake::blocked("research", seq));
        }
    });
    let server = Server::bind(config, engine).await?;
    #[allow(clippy::print_stdout, reason = "an example for people")]
    {
        println!("http://{}/#key=fake-admin-key", server.addr());
    }
    server.run(std::future::pending()).await;
    Ok(())
}
