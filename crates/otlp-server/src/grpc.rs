//! OTLP over gRPC. tonic frames, limits and decompresses; the message itself stays bytes, so that `otlp-intake` can read around a span that
//! is wrong. The generated services cannot do that: they read a request as a whole, and refuse it for one span.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::{Buf, Bytes};
use otlp_intake::Encoding;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::Grpc;

use crate::Entrance;
use crate::http::ExportResponse;
use crate::take::{Partial, Signal};

pub(crate) fn routes(entrance: Arc<Entrance>) -> Router {
    const PREFIX: &str = "/opentelemetry.proto.collector";
    let traces = post(|State(entrance), request| export(entrance, Signal::Traces, ExportResponse::new, request));
    let logs = post(|State(entrance), request| export(entrance, Signal::Logs, ExportResponse::new, request));
    // The answer to metrics is a message without fields.
    let metrics = post(|State(entrance), request| export(entrance, Signal::Metrics, |_: &Partial| (), request));
    Router::new()
        .route(&format!("{PREFIX}.trace.v1.TraceService/Export"), traces)
        .route(&format!("{PREFIX}.logs.v1.LogsService/Export"), logs)
        .route(&format!("{PREFIX}.metrics.v1.MetricsService/Export"), metrics)
        .with_state(entrance)
}

async fn export<M: Message + 'static>(
    entrance: Arc<Entrance>,
    signal: Signal,
    answer: fn(&Partial) -> M,
    request: Request,
) -> Response {
    let _permit = match entrance.counted(entrance.admit(request.headers())) {
        Ok(permit) => permit,
        Err(failure) => return failure.to_status().into_http(),
    };
    let bytes_max = entrance.config.body_bytes_max;
    let service = {
        let entrance = Arc::clone(&entrance);
        tower::service_fn(move |request: tonic::Request<Bytes>| {
            let entrance = Arc::clone(&entrance);
            async move {
                let taken = entrance.take(signal, request.into_inner(), Encoding::Protobuf).await;
                let partial = entrance.counted(taken);
                partial.map(|partial| tonic::Response::new(answer(&partial))).map_err(|failure| failure.to_status())
            }
        })
    };
    let mut grpc = Grpc::new(RawCodec(PhantomData))
        // The limit holds for the message as it comes and while it is decompressed.
        .max_decoding_message_size(bytes_max)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    let work = async { Ok(grpc.unary(service, request).await) };
    let answered = entrance.within_time(work).await;
    match entrance.counted(answered) {
        Ok(response) => response.map(Body::new),
        Err(failure) => failure.to_status().into_http(),
    }
}

/// Requests as they come, answers as messages.
struct RawCodec<M>(PhantomData<M>);

impl<M: Message + 'static> Codec for RawCodec<M> {
    type Encode = M;
    type Decode = Bytes;
    type Encoder = MessageEncoder<M>;
    type Decoder = BytesDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        BytesDecoder
    }
}

struct MessageEncoder<M>(PhantomData<M>);

impl<M: Message> Encoder for MessageEncoder<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, message: M, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

struct BytesDecoder;

impl Decoder for BytesDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
