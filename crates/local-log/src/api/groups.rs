//! Membership of consumer groups.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};
use crate::groups::member::{Caller, JoinReply, JoinRequest, SyncReply, SyncRequest};

/// Kafka's upper bound of session timeouts.
const SESSION_TIMEOUT_MS_MAX: i32 = 1_800_000;

pub(super) async fn join(context: Context, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = context.version;
    let session = request.session_timeout_ms;
    let reply = if request.group_id.is_empty() {
        JoinReply::failed(ResponseError::InvalidGroupId, request.member_id.to_string())
    } else if !(1..=SESSION_TIMEOUT_MS_MAX).contains(&session) {
        JoinReply::failed(ResponseError::InvalidSessionTimeout, request.member_id.to_string())
    } else {
        // Version 0 has no timeout of its own for the rebalance.
        let rebalance = if version >= 1 { request.rebalance_timeout_ms } else { session };
        let protocols = request.protocols.into_iter().map(|protocol| (protocol.name.to_string(), protocol.metadata));
        let join = JoinRequest {
            member_id: request.member_id.to_string(),
            instance_id: owned(request.group_instance_id),
            client_id: owned(context.client_id.clone()).unwrap_or_default(),
            client_host: format!("/{}", context.peer.remote.ip()),
            session_timeout: millis(session),
            rebalance_timeout: millis(rebalance.max(1)),
            protocol_type: request.protocol_type.to_string(),
            protocols: protocols.collect(),
            requires_known_id: version >= 4,
            understands_skip: version >= 9,
        };
        let answer = context.broker.groups.join(&request.group_id, join);
        let gone = || JoinReply::failed(ResponseError::RebalanceInProgress, request.member_id.to_string());
        answer.await.unwrap_or_else(|_| gone())
    };
    join_response(version, reply)
}

fn join_response(version: i16, reply: JoinReply) -> JoinGroupResponse {
    let members = reply.members.into_iter().map(|(id, instance, metadata)| {
        let member = JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(metadata);
        if version >= 5 { member.with_group_instance_id(instance.map(text)) } else { member }
    });
    let response = JoinGroupResponse::default()
        .with_error_code(code(reply.error))
        .with_generation_id(reply.generation)
        .with_leader(text(reply.leader))
        .with_member_id(text(reply.member_id))
        .with_members(members.collect());
    let response = match version {
        // Null was not allowed before version 7.
        0..=6 => response.with_protocol_name(Some(text(reply.protocol.unwrap_or_default()))),
        _ => response.with_protocol_name(reply.protocol.map(text)).with_protocol_type(reply.protocol_type.map(text)),
    };
    if version >= 9 { response.with_skip_assignment(reply.skip_assignment) } else { response }
}

pub(super) async fn sync(context: Context, request: SyncGroupRequest) -> SyncGroupResponse {
    let assignments = request.assignments.into_iter().map(|given| (given.member_id.to_string(), given.assignment));
    let sync = SyncRequest {
        caller: caller(request.member_id, request.group_instance_id, request.generation_id),
        protocol_type: owned(request.protocol_type),
        protocol: owned(request.protocol_name),
        assignments: assignments.collect(),
    };
    let answer = context.broker.groups.sync(&request.group_id, sync);
    let reply = answer.await.unwrap_or_else(|_| SyncReply::failed(ResponseError::RebalanceInProgress));
    let response = SyncGroupResponse::default().with_error_code(code(reply.error)).with_assignment(reply.assignment);
    if context.version < 5 {
        return response;
    }
    response.with_protocol_type(reply.protocol_type.map(text)).with_protocol_name(reply.protocol.map(text))
}

pub(super) async fn heartbeat(context: Context, request: HeartbeatRequest) -> HeartbeatResponse {
    let caller = caller(request.member_id, request.group_instance_id, request.generation_id);
    let beat = context.broker.groups.heartbeat(&request.group_id, &caller);
    HeartbeatResponse::default().with_error_code(code(beat.err()))
}

pub(super) async fn leave(context: Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let groups = &context.broker.groups;
    if context.version < 3 {
        let left = groups.leave(&request.group_id, &request.member_id, None);
        return LeaveGroupResponse::default().with_error_code(code(left.err()));
    }
    let member = |member: MemberIdentity| {
        let left = groups.leave(&request.group_id, &member.member_id, member.group_instance_id.as_deref());
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(left.err()))
    };
    LeaveGroupResponse::default().with_members(request.members.into_iter().map(member).collect())
}

pub(super) fn caller(member_id: StrBytes, instance_id: Option<StrBytes>, generation: i32) -> Caller {
    Caller { member_id: member_id.to_string(), instance_id: owned(instance_id), generation }
}

pub(super) fn code(error: Option<ResponseError>) -> i16 {
    error.map_or(0, |error| error.code())
}

fn owned(text: Option<StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

fn millis(duration_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(duration_ms).unwrap_or(0))
}
