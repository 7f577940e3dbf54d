//! Settings of topics, and of the broker as far as tools ask for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as LegacyResourceResponse;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::{Context, NODE_ID, admin, blocking, text};
use crate::topic_config::{self, KNOWN, Kind};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Where a value comes from: set for the topic, set when the broker started, Kafka's default.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Name, value and source of every topic setting.
pub(super) fn effective(set: &BTreeMap<String, String>) -> Vec<(&'static str, String, i8)> {
    let entry = |(name, _, default): &topic_config::Known| match set.get(*name) {
        Some(value) => (*name, value.clone(), SOURCE_TOPIC),
        None => (*name, (*default).to_owned(), SOURCE_DEFAULT),
    };
    KNOWN.iter().map(entry).collect()
}

pub(super) async fn describe(context: Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let synonyms = request.include_synonyms;
    let results = request.resources.into_iter().map(|resource| describe_one(&context, resource, synonyms));
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe_one(context: &Context, resource: DescribeConfigsResource, synonyms: bool) -> DescribeConfigsResult {
    let name = resource.resource_name.to_string();
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name);
    let failed = |result: DescribeConfigsResult, error: ResponseError, message: &str| {
        result.with_error_code(error.code()).with_error_message(Some(text(message)))
    };
    let entries: Vec<(String, String, i8, bool)> = match resource.resource_type {
        TOPIC => match context.broker.topics.get(&name) {
            Some(topic) => {
                let entries = effective(&topic.set_config()).into_iter();
                entries.map(|(name, value, source)| (name.to_owned(), value, source, false)).collect()
            }
            None => return failed(result, ResponseError::UnknownTopicOrPartition, "no such topic"),
        },
        BROKER if name == NODE_ID.to_string() || name.is_empty() => broker_entries(context),
        BROKER => return failed(result, ResponseError::InvalidRequest, "no such broker; the only one is 1"),
        _ => return failed(result, ResponseError::InvalidRequest, "only topics and brokers have settings here"),
    };
    // Some clients ask for all with an empty list, not with null.
    let keys = resource.configuration_keys.filter(|keys| !keys.is_empty());
    let wanted = |name: &String| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
    let configs = entries.into_iter().filter(|(name, ..)| wanted(name)).map(|(name, value, source, read_only)| {
        let mut config = DescribeConfigsResourceResult::default()
            .with_read_only(read_only)
            .with_config_source(source)
            .with_value(Some(text(value.clone())));
        if synonyms {
            let synonym = DescribeConfigsSynonym::default().with_name(text(name.clone())).with_source(source);
            config = config.with_synonyms(vec![synonym.with_value(Some(text(value)))]);
        }
        if context.version >= 3 {
            config = config.with_config_type(config_type(&name));
        }
        config.with_name(text(name))
    });
    let configs = configs.collect();
    result.with_configs(configs)
}

fn broker_entries(context: &Context) -> Vec<(String, String, i8, bool)> {
    let config = &context.broker.config;
    let entry = |name: &str, value: String| (name.to_owned(), value, SOURCE_STATIC_BROKER, true);
    vec![
        entry("auto.create.topics.enable", config.auto_create_topics.to_string()),
        entry("broker.id", NODE_ID.to_string()),
        entry("default.replication.factor", "1".to_owned()),
        entry("log.dirs", config.data_dir.display().to_string()),
        entry("max.connections", config.max_connections.to_string()),
        entry("message.max.bytes", topic_config::MAX_MESSAGE_BYTES_DEFAULT.to_string()),
        entry("num.partitions", config.default_partitions.to_string()),
        entry("socket.request.max.bytes", config.max_request_bytes.to_string()),
    ]
}

/// The protocol's number of a setting's type.
fn config_type(name: &str) -> i8 {
    match topic_config::known(name).map(|known| known.1) {
        Some(Kind::Bool) => 1,
        Some(Kind::Text(_)) => 2,
        Some(Kind::Int { max, .. }) if max <= i64::from(i32::MAX) => 3,
        Some(Kind::Int { .. }) => 5,
        Some(Kind::Ratio) => 6,
        Some(Kind::List(_) | Kind::AnyList) => 7,
        None => 0,
    }
}

pub(super) async fn incremental_alter(
    context: Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let (edits, validate_only) = (resource.configs, request.validate_only);
        let name = resource.resource_name.to_string();
        let altered = alter_topic(&context, resource.resource_type, name, validate_only, move |set| {
            edits.into_iter().try_for_each(|edit| apply(set, edit))
        });
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        responses.push(match altered.await {
            Ok(()) => response,
            Err((error, message)) => response.with_error_code(error.code()).with_error_message(Some(text(message))),
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// The older request, which gives all settings of a topic at once.
pub(super) async fn alter(context: Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let given = resource.configs.into_iter().filter_map(|c| Some((c.name.to_string(), c.value?.to_string())));
        let given: BTreeMap<String, String> = given.collect();
        let name = resource.resource_name.to_string();
        let altered = alter_topic(&context, resource.resource_type, name, request.validate_only, move |set| {
            *set = given;
            Ok(())
        });
        let response = LegacyResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        responses.push(match altered.await {
            Ok(()) => response,
            Err((error, message)) => response.with_error_code(error.code()).with_error_message(Some(text(message))),
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}

async fn alter_topic(
    context: &Context,
    resource_type: i8,
    name: String,
    validate_only: bool,
    edit: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), String> + Send + 'static,
) -> Result<(), (ResponseError, String)> {
    if resource_type != TOPIC {
        let message = "only settings of topics can be altered; give those of the log when it starts".to_owned();
        return Err((ResponseError::InvalidRequest, message));
    }
    let broker = Arc::clone(&context.broker);
    let altered = blocking(move || broker.topics.configure(&name, validate_only, edit));
    match altered.await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(admin::describe(error)),
        None => Err((ResponseError::UnknownServerError, "the log is stopping".to_owned())),
    }
}

fn apply(set: &mut BTreeMap<String, String>, edit: AlterableConfig) -> Result<(), String> {
    let name = edit.name.to_string();
    let Some((_, kind, default)) = topic_config::known(&name) else {
        return Err(format!("unknown topic setting {name}; see the Kafka documentation for the names"));
    };
    let value = edit.value.map(|value| value.to_string());
    let is_list = matches!(kind, Kind::List(_) | Kind::AnyList);
    let value = match (edit.config_operation, value) {
        (DELETE, _) => {
            set.remove(&name);
            return Ok(());
        }
        (SET, Some(value)) => value,
        (APPEND | SUBTRACT, Some(value)) if is_list => {
            let current = set.get(&name).map_or(*default, String::as_str);
            let mut items: Vec<&str> = current.split(',').filter(|item| !item.is_empty()).collect();
            for item in value.split(',') {
                items.retain(|present| *present != item);
                if edit.config_operation == APPEND {
                    items.push(item);
                }
            }
            items.join(",")
        }
        (APPEND | SUBTRACT, _) => return Err(format!("{name} is not a list; set it")),
        (_, None) => return Err(format!("{name} needs a value")),
        (other, _) => return Err(format!("unknown operation {other} on {name}")),
    };
    set.insert(name, value);
    Ok(())
}
