//! Finding, listing, describing and deleting groups.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::groups::code;
use super::transactions::UNSUPPORTED;
use super::{Context, NODE_ID, text};
use crate::groups::member::Member;
use crate::groups::state::Group;

/// Key type of consumer groups in FindCoordinator.
const GROUP_KEY: i8 = 0;
/// What consumers give as protocol type; also told of groups that have only offsets.
const CONSUMER: &str = "consumer";

pub(super) async fn find_coordinator(context: Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let (host, port) = context.advertised();
    let is_group = context.version == 0 || request.key_type == GROUP_KEY;
    let (error, message) = if is_group {
        (0, None)
    } else {
        tracing::warn!(peer = %context.peer.remote, "{UNSUPPORTED}");
        (ResponseError::TransactionalIdAuthorizationFailed.code(), Some(StrBytes::from_static_str(UNSUPPORTED)))
    };
    if context.version >= 4 {
        let coordinator = |key: StrBytes| {
            let found = Coordinator::default().with_key(key).with_error_code(error).with_error_message(message.clone());
            if is_group {
                found.with_node_id(BrokerId(NODE_ID)).with_host(host.clone()).with_port(port)
            } else {
                found.with_node_id(BrokerId(-1)).with_port(-1)
            }
        };
        let coordinators = request.coordinator_keys.into_iter().map(coordinator).collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let response = FindCoordinatorResponse::default().with_error_code(error);
    let response = if context.version >= 1 { response.with_error_message(message) } else { response };
    if is_group {
        response.with_node_id(BrokerId(NODE_ID)).with_host(host).with_port(port)
    } else {
        response.with_node_id(BrokerId(-1)).with_port(-1)
    }
}

pub(super) async fn list(context: Context, request: ListGroupsRequest) -> ListGroupsResponse {
    let groups = &context.broker.groups;
    let listed = groups.ids().into_iter().filter_map(|id| {
        let (state, protocol_type) = groups.inspect(&id, |group| (group.state(), protocol_type(group)))?;
        let states = &request.states_filter;
        let types = &request.types_filter;
        if !states.is_empty() && !states.iter().any(|wanted| wanted.eq_ignore_ascii_case(state.name())) {
            return None;
        }
        if !types.is_empty() && !types.iter().any(|wanted| wanted.eq_ignore_ascii_case("classic")) {
            return None;
        }
        let listed = ListedGroup::default().with_group_id(GroupId(text(id))).with_protocol_type(protocol_type);
        let listed = if context.version >= 4 { listed.with_group_state(text(state.name())) } else { listed };
        Some(if context.version >= 5 { listed.with_group_type(text("classic")) } else { listed })
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}

pub(super) async fn describe(context: Context, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let version = context.version;
    let describe = |id: GroupId| {
        let described = context.broker.groups.inspect(&id, |group| {
            let members = group.members().map(|member| describe_member(version, group, member)).collect();
            DescribedGroup::default()
                .with_group_state(text(group.state().name()))
                .with_protocol_type(protocol_type(group))
                .with_protocol_data(text(group.protocol()))
                .with_members(members)
        });
        // An unknown group is described as dead, without an error, as Kafka does in these versions.
        described.unwrap_or_else(|| DescribedGroup::default().with_group_state(text("Dead"))).with_group_id(id)
    };
    DescribeGroupsResponse::default().with_groups(request.groups.into_iter().map(describe).collect())
}

fn describe_member(version: i16, group: &Group, member: &Member) -> DescribedGroupMember {
    let described = DescribedGroupMember::default()
        .with_member_id(text(member.id.clone()))
        .with_client_id(text(member.client_id.clone()))
        .with_client_host(text(member.client_host.clone()))
        .with_member_metadata(member.metadata(group.protocol()))
        .with_member_assignment(member.assignment.clone());
    if version >= 4 { described.with_group_instance_id(member.instance_id.clone().map(text)) } else { described }
}

pub(super) async fn delete(context: Context, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for id in request.groups_names {
        let deleted = context.broker.groups.delete(&id).await;
        results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code(deleted.err())));
    }
    DeleteGroupsResponse::default().with_results(results)
}

fn protocol_type(group: &Group) -> StrBytes {
    match group.protocol_type() {
        "" => StrBytes::from_static_str(CONSUMER),
        known => text(known),
    }
}
