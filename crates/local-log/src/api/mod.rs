//! Which requests are answered, in which versions, and by whom.
//!
//! [`OFFERED`] is both what ApiVersions tells clients and what is checked on each request; a version outside of it is never decoded
//! nor encoded. Deliberately absent: transactions (see [`transactions`]), ACLs, quotas, KIP-848 groups.

mod admin;
mod configs;
mod fetch;
mod group_admin;
mod groups;
mod list_offsets;
mod metadata;
mod offsets;
mod produce;
mod transactions;

use std::future::Future;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

use crate::broker::Broker;
use crate::server::{Answer, BadRequest, Peer, decode};

/// The one node of this log.
pub(crate) const NODE_ID: i32 = 1;
/// The one epoch of its leadership.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// Offered versions: api key, first, last.
///
/// Produce and Fetch end before topic ids replace names. Produce starts at 0 in name only: librdkafka up to 2.8 refuses to
/// compress for a broker that does not list version 0, but then uses the last one.
const OFFERED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 0, 11),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::ListOffsets, 1, 8),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::OffsetCommit, 2, 8),
    (ApiKey::OffsetFetch, 1, 8),
    (ApiKey::FindCoordinator, 0, 4),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 5),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 1),
];

/// What a handler knows of its request.
#[derive(Clone)]
pub(crate) struct Context {
    pub broker: Arc<Broker>,
    pub peer: Peer,
    pub version: i16,
    pub client_id: Option<StrBytes>,
    api_key: i16,
    correlation_id: i32,
}

impl Context {
    /// Host and port that clients are told to connect to.
    pub fn advertised(&self) -> (StrBytes, i32) {
        let host = match &self.broker.config.advertised_host {
            Some(host) => host.clone(),
            None => self.peer.local.ip().to_canonical().to_string(),
        };
        (StrBytes::from_string(host), i32::from(self.broker.addr.port()))
    }
}

/// Decodes a request and returns its answer, yet to be computed.
///
/// # Errors
/// When the request cannot be answered; the connection is closed then.
pub(crate) fn dispatch(broker: &Arc<Broker>, peer: Peer, frame: Bytes) -> Result<Answer, BadRequest> {
    let mut body = frame;
    if body.len() < 8 {
        return Err(BadRequest::Malformed("no header"));
    }
    let api_key = i16::from_be_bytes([body[0], body[1]]);
    let version = i16::from_be_bytes([body[2], body[3]]);
    let not_offered = BadRequest::NotOffered { api_key, version };
    let Ok(key) = ApiKey::try_from(api_key) else { return Err(not_offered) };
    let Some((_, first, last)) = OFFERED.iter().find(|offered| offered.0 == key) else { return Err(not_offered) };
    let correlation_id = i32::from_be_bytes([body[4], body[5], body[6], body[7]]);
    let mut context = Context { broker: Arc::clone(broker), peer, version, client_id: None, api_key, correlation_id };
    if !(*first..=*last).contains(&version) || (key == ApiKey::Produce && version < 3) {
        return if key == ApiKey::ApiVersions { Ok(api_versions_fallback(context)) } else { Err(not_offered) };
    }
    let header = RequestHeader::decode(&mut body, key.request_header_version(version));
    context.client_id = header.map_err(|_| BadRequest::Malformed("header"))?.client_id;
    tracing::trace!(peer = %peer.remote, ?key, version, "request");
    route(key, context, &body)
}

fn route(key: ApiKey, context: Context, body: &Bytes) -> Result<Answer, BadRequest> {
    match key {
        ApiKey::Produce => produce::answer(context, body),
        ApiKey::Fetch => answer(context, body, fetch::fetch),
        ApiKey::ListOffsets => answer(context, body, list_offsets::list_offsets),
        ApiKey::OffsetForLeaderEpoch => answer(context, body, list_offsets::offset_for_leader_epoch),
        ApiKey::Metadata => answer(context, body, metadata::metadata),
        ApiKey::DescribeCluster => answer(context, body, metadata::describe_cluster),
        ApiKey::ApiVersions => answer(context, body, api_versions),
        ApiKey::InitProducerId => answer(context, body, transactions::init_producer_id),
        ApiKey::FindCoordinator => answer(context, body, group_admin::find_coordinator),
        ApiKey::JoinGroup => answer(context, body, groups::join),
        ApiKey::SyncGroup => answer(context, body, groups::sync),
        ApiKey::Heartbeat => answer(context, body, groups::heartbeat),
        ApiKey::LeaveGroup => answer(context, body, groups::leave),
        ApiKey::OffsetCommit => answer(context, body, offsets::commit),
        ApiKey::OffsetFetch => answer(context, body, offsets::fetch),
        ApiKey::OffsetDelete => answer(context, body, offsets::delete),
        ApiKey::DescribeGroups => answer(context, body, group_admin::describe),
        ApiKey::ListGroups => answer(context, body, group_admin::list),
        ApiKey::DeleteGroups => answer(context, body, group_admin::delete),
        ApiKey::CreateTopics => answer(context, body, admin::create_topics),
        ApiKey::DeleteTopics => answer(context, body, admin::delete_topics),
        ApiKey::CreatePartitions => answer(context, body, admin::create_partitions),
        ApiKey::DeleteRecords => answer(context, body, admin::delete_records),
        ApiKey::DescribeConfigs => answer(context, body, configs::describe),
        ApiKey::AlterConfigs => answer(context, body, configs::alter),
        ApiKey::IncrementalAlterConfigs => answer(context, body, configs::incremental_alter),
        _ => Err(BadRequest::NotOffered { api_key: context.api_key, version: context.version }),
    }
}

fn answer<Req, Resp, Fut>(
    context: Context,
    body: &Bytes,
    handler: impl FnOnce(Context, Req) -> Fut,
) -> Result<Answer, BadRequest>
where
    Req: Decodable,
    Resp: Encodable + HeaderVersion,
    Fut: Future<Output = Resp> + Send + 'static,
{
    let request = decode(body, context.version).ok_or(BadRequest::Malformed("body"))?;
    let response = handler(context.clone(), request);
    Ok(Box::pin(async move { encode(&context, &response.await).map(Some) }))
}

/// Frames an answer: length, header, body.
fn encode<Resp: Encodable + HeaderVersion>(context: &Context, response: &Resp) -> Result<BytesMut, BadRequest> {
    let version = context.version;
    let encoding = |message: String| BadRequest::Encoding { api_key: context.api_key, version, message };
    let body_bytes = response.compute_size(version).map_err(|error| encoding(error.to_string()))?;
    let mut frame = BytesMut::with_capacity(body_bytes + 16);
    frame.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(context.correlation_id);
    header
        .encode(&mut frame, Resp::header_version(version))
        .and_then(|()| response.encode(&mut frame, version))
        .map_err(|error| encoding(error.to_string()))?;
    let length = i32::try_from(frame.len() - 4).map_err(|_| encoding("larger than 2 GiB".to_owned()))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

async fn api_versions(_context: Context, _request: ApiVersionsRequest) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_api_keys(offered_versions())
}

/// A client newer than us learns in version 0 which versions to use.
fn api_versions_fallback(mut context: Context) -> Answer {
    context.version = 0;
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(offered_versions());
    Box::pin(async move { encode(&context, &response).map(Some) })
}

fn offered_versions() -> Vec<ApiVersion> {
    let version = |(key, first, last): &(ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(*first).with_max_version(*last)
    };
    OFFERED.iter().map(version).collect()
}

/// Runs work that blocks on the disk; `None` only when the runtime is shutting down or the work has a defect.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}
