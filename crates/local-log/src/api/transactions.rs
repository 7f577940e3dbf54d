//! Producer ids for idempotence, and the refusal of transactions.
//!
//! This log has no transactions: nothing of Outlay uses them (state carries the offset it holds to), and half of them would be worse
//! than none. A client learns so on its first call.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use std::sync::Arc;

use super::{Context, blocking};

/// The text for every request that belongs to a transaction.
pub(super) const UNSUPPORTED: &str =
    "the embedded log has no transactions; use an idempotent producer, or a Kafka cluster";

pub(super) async fn init_producer_id(context: Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let failed = |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        tracing::warn!(peer = %context.peer.remote, "{UNSUPPORTED}");
        return failed(ResponseError::TransactionalIdAuthorizationFailed);
    }
    // A producer that recovers from an error asks for the next epoch of its id (KIP-360).
    if request.producer_id.0 >= 0 && (0..i16::MAX - 1).contains(&request.producer_epoch) {
        return InitProducerIdResponse::default()
            .with_producer_id(request.producer_id)
            .with_producer_epoch(request.producer_epoch + 1);
    }
    let broker = Arc::clone(&context.broker);
    match blocking(move || broker.producer_ids.next()).await {
        Some(Ok(id)) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Some(Err(error)) => {
            tracing::error!(%error, "local log could not note producer ids; free space or check the disk");
            failed(ResponseError::CoordinatorNotAvailable)
        }
        None => failed(ResponseError::CoordinatorNotAvailable),
    }
}
