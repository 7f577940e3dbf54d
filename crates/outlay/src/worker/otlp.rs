//! OpenTelemetry's entrance within the server: its usage goes the way of every event that comes over HTTP, and its listeners open beside it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use http_api::{Engine, IntakeRecord, PublishError};
use otlp_server::{Entrance, Record, Server, Sink, SinkError};

use super::engine::Outlay;
use crate::options::{DEFAULT_OTLP_GRPC, DEFAULT_OTLP_HTTP, OtlpListen, Settings};

/// The engine as a sink.
pub struct IntoLog(pub Arc<Outlay>);

#[async_trait]
impl Sink for IntoLog {
    async fn publish(&self, records: Vec<Record>) -> Vec<Result<(), SinkError>> {
        let record = |record: Record| IntakeRecord { key: record.key, value: record.value, headers: Vec::new() };
        let results = self.0.publish(records.into_iter().map(record).collect()).await;
        let result = |result: Result<_, PublishError>| match result {
            Ok(_ack) => Ok(()),
            Err(PublishError::QueueFull) => Err(SinkError::QueueFull),
            Err(PublishError::Unavailable(why)) => Err(SinkError::Unavailable(why)),
            Err(PublishError::Refused(why)) => Err(SinkError::Refused(why)),
        };
        results.into_iter().map(result).collect()
    }
}

/// The listeners of gRPC and of HTTP; none where it is off, or where it was not asked for and its port is taken.
pub async fn listen(settings: &Settings, entrance: &Arc<Entrance>) -> Result<[Option<Server>; 2]> {
    Ok([
        open("--otlp-grpc", settings.otlp_grpc, DEFAULT_OTLP_GRPC, entrance).await?,
        open("--otlp-http", settings.otlp_http, DEFAULT_OTLP_HTTP, entrance).await?,
    ])
}

async fn open(
    flag: &str,
    asked: Option<OtlpListen>,
    default: SocketAddr,
    entrance: &Arc<Entrance>,
) -> Result<Option<Server>> {
    match asked {
        Some(OtlpListen::Off) => Ok(None),
        Some(OtlpListen::At(addr)) => {
            let server = Server::bind(addr, Arc::clone(entrance)).await;
            server.map(Some).with_context(|| format!("give it another {flag} address, or `{flag} off`"))
        }
        // A collector on this machine has these ports; Outlay starts beside it all the same.
        None => match Server::bind(default, Arc::clone(entrance)).await {
            Ok(server) => Ok(Some(server)),
            Err(error) => {
                tracing::warn!("{error}; without {flag} it goes on without");
                Ok(None)
            }
        },
    }
}
