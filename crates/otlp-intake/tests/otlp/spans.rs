//! Token counts of spans: which become which classes, which spans are calls of a model, and what is refused.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use otlp_intake::OtlpMap;
use usage_types::{Dimension, RejectCode, Tokens};

use crate::attributes;
use crate::support::{END, list_value, read, read_with, resource, span};

/// The classes of the one event that a span with these attributes gives.
fn tokens(attributes: Vec<KeyValue>) -> Tokens {
    let decoded = read(vec![span(1, attributes)]);
    assert_eq!((decoded.events.len(), decoded.ignored, decoded.rejected), (1, 0, 0), "{decoded:?}");
    decoded.events[0].tokens
}

/// Input, cache read, cache write, output, reasoning.
fn classes([input, cache_read, cache_write_5m, output, reasoning]: [u64; 5]) -> Tokens {
    Tokens { input, cache_read, cache_write_5m, cache_write_1h: 0, output, reasoning }
}

#[test]
fn cached_input_and_reasoning_are_taken_out_of_their_totals() {
    // 1500 input of which 1000 were read and 200 written, leaves 300; 80 output of which 30 were reasoning, leaves 50.
    let expected = classes([300, 1000, 200, 50, 30]);
    for (cache_read, cache_write, reasoning) in [
        (
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.reasoning.output_tokens",
        ),
        (
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.reasoning.output_tokens",
        ),
        // OpenLLMetry.
        (
            "gen_ai.usage.cache_read_input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "gen_ai.usage.reasoning_tokens",
        ),
        // Sentry.
        (
            "gen_ai.usage.input_tokens.cached",
            "gen_ai.usage.input_tokens.cache_write",
            "gen_ai.usage.output_tokens.reasoning",
        ),
    ] {
        let mut attributes = attributes![
            "gen_ai.operation.name" => "chat",
            "gen_ai.usage.input_tokens" => 1500,
            "gen_ai.usage.output_tokens" => 80,
        ];
        for (name, count) in [(cache_read, 1000), (cache_write, 200), (reasoning, 30)] {
            attributes.push(crate::support::pair(name, count));
        }
        assert_eq!(tokens(attributes), expected, "{cache_read}");
    }
}

#[test]
fn names_of_former_conventions_are_read_and_the_current_one_wins() {
    let old = attributes!["gen_ai.usage.prompt_tokens" => 11, "gen_ai.usage.completion_tokens" => 7];
    assert_eq!(tokens(old), classes([11, 0, 0, 7, 0]));
    let both = attributes!["gen_ai.usage.prompt_tokens" => 11, "gen_ai.usage.input_tokens" => 12];
    assert_eq!(tokens(both), classes([12, 0, 0, 0, 0]));
}

#[test]
fn openinference_counts_its_model_calls_and_not_what_surrounds_them() {
    let llm = |kind: &str| {
        attributes![
            "openinference.span.kind" => kind,
            "llm.provider" => "anthropic",
            "llm.model_name" => "claude-sonnet-4-5",
            "llm.token_count.prompt" => 2095,
            "llm.token_count.prompt_details.cache_read" => 1800,
            "llm.token_count.prompt_details.cache_write" => 248,
            "llm.token_count.completion" => 503,
            "llm.token_count.completion_details.reasoning" => 3,
        ]
    };
    let decoded = read(vec![span(1, llm("LLM")), span(2, llm("AGENT")), span(3, llm("CHAIN"))]);
    assert_eq!((decoded.events.len(), decoded.ignored), (1, 2));
    let event = &decoded.events[0];
    // 2095 - 1800 - 248 = 47; 503 - 3 = 500.
    assert_eq!(event.tokens, classes([47, 1800, 248, 500, 3]));
    assert_eq!(event.dimensions.get(Dimension::Operation), Some("chat"));
    assert_eq!(event.dimensions.get(Dimension::Provider), Some("anthropic"));
    assert_eq!(event.dimensions.get(Dimension::Model), Some("claude-sonnet-4-5"));
}

#[test]
fn a_scope_that_counts_the_cache_beside_its_input_is_known_by_its_name() {
    // Amazon Bedrock's Converse: inputTokens 12, cacheReadInputTokens 1000, cacheWriteInputTokens 5, outputTokens 40.
    let attributes = attributes![
        "gen_ai.usage.input_tokens" => 12,
        "gen_ai.usage.cache_read.input_tokens" => 1000,
        "gen_ai.usage.cache_creation.input_tokens" => 5,
        "gen_ai.usage.output_tokens" => 40,
    ];
    let map = OtlpMap::default();
    let read = |scope| read_with(resource(), scope, vec![span(1, attributes.clone())], &map);
    assert_eq!(read("opentelemetry.instrumentation.bedrock").events[0].tokens, classes([12, 1000, 5, 40, 0]));
    let other = read("opentelemetry.instrumentation.other");
    assert_eq!((other.events.len(), other.rejected), (0, 1));
    let rejection = &other.reasons[0].rejection;
    assert_eq!(rejection.field.as_deref(), Some("gen_ai.usage.cache_read.input_tokens"));
    assert!(rejection.message.contains("opentelemetry.instrumentation.other"), "{rejection}");
    assert!(rejection.message.contains("input_excludes_cache"), "{rejection}");
}

#[test]
fn an_agent_that_repeats_what_its_calls_spent_is_not_counted_again() {
    let usage = |operation: &str, input| {
        attributes![
            "gen_ai.operation.name" => operation,
            "gen_ai.usage.input_tokens" => input,
            "gen_ai.usage.output_tokens" => 10,
        ]
    };
    let decoded = read(vec![
        span(1, usage("invoke_agent", 300)),
        span(2, usage("chat", 100)),
        span(3, usage("execute_tool", 5)),
        span(4, usage("chat", 200)),
        span(5, usage("invoke_workflow", 300)),
    ]);
    let inputs: Vec<u64> = decoded.events.iter().map(|event| event.tokens.input).collect();
    assert_eq!((inputs, decoded.ignored, decoded.rejected), (vec![100, 200], 3, 0));
    assert_eq!(decoded.unknown_operation, None);
}

#[test]
fn every_operation_that_calls_a_model_counts_and_an_unknown_one_is_named() {
    for operation in ["chat", "text_completion", "generate_content", "embeddings"] {
        let attributes = attributes!["gen_ai.operation.name" => operation, "gen_ai.usage.input_tokens" => 3];
        let decoded = read(vec![span(1, attributes)]);
        assert_eq!(decoded.events[0].dimensions.get(Dimension::Operation), Some(operation));
        assert_eq!(decoded.events[0].requests, 1);
    }
    let attributes = attributes!["gen_ai.operation.name" => "transcribe", "gen_ai.usage.input_tokens" => 3];
    let decoded = read(vec![span(1, attributes.clone())]);
    assert_eq!((decoded.events.len(), decoded.ignored, decoded.rejected), (0, 1, 0));
    assert_eq!(decoded.unknown_operation.as_deref(), Some("transcribe"));
    let mut map = OtlpMap::default();
    map.operations.push("transcribe".to_owned());
    assert_eq!(read_with(resource(), "", vec![span(1, attributes)], &map).events.len(), 1);
}

#[test]
fn spans_without_usage_are_ignored_whatever_else_is_wrong_with_them() {
    let mut no_time = span(3, attributes!["http.request.method" => "GET"]);
    no_time.end_time_unix_nano = 0;
    let decoded = read_with(
        Vec::new(),
        "",
        vec![
            span(1, Vec::new()),
            span(2, attributes!["gen_ai.operation.name" => "chat", "gen_ai.request.model" => "gpt-5.1"]),
            no_time,
            span(4, attributes!["gen_ai.usage.cost" => -1, "llm.is_streaming" => "yes"]),
        ],
        &OtlpMap::default(),
    );
    assert_eq!((decoded.events.len(), decoded.ignored, decoded.rejected), (0, 4, 0));
}

#[test]
fn what_a_span_says_of_itself_is_in_the_event() {
    let decoded = read(vec![span(
        1,
        attributes![
            "gen_ai.operation.name" => "chat",
            "gen_ai.system" => "openai",
            "gen_ai.request.model" => "gpt-5.1",
            "gen_ai.response.model" => "gpt-5.1-2026-10-01",
            "openai.response.service_tier" => "flex",
            "gen_ai.usage.input_tokens" => 900,
        ],
    )]);
    let event = &decoded.events[0];
    assert_eq!(event.source, "helpdesk-bot");
    assert_eq!(event.time.to_string(), END);
    let dimensions: Vec<(Dimension, &str)> = event.dimensions.iter().collect();
    assert_eq!(
        dimensions,
        [
            (Dimension::Namespace, "support"),
            (Dimension::Provider, "openai"),
            (Dimension::Model, "gpt-5.1-2026-10-01"),
            (Dimension::Operation, "chat"),
            (Dimension::ServiceTier, "flex"),
        ]
    );
}

#[test]
fn the_usual_service_tier_is_none() {
    for tier in ["default", "auto", "standard"] {
        let attributes = attributes!["openai.response.service_tier" => tier, "gen_ai.usage.input_tokens" => 1];
        assert_eq!(read(vec![span(1, attributes)]).events[0].dimensions.get(Dimension::ServiceTier), None, "{tier}");
    }
}

#[test]
fn counts_as_doubles_or_texts_are_read_where_they_are_whole() {
    let attributes = attributes!["gen_ai.usage.input_tokens" => 900.0, "gen_ai.usage.output_tokens" => "80"];
    assert_eq!(tokens(attributes), classes([900, 0, 0, 80, 0]));
}

#[test]
fn wrong_counts_are_refused_with_their_attribute() {
    use RejectCode::{BadTime, Negative, OutOfRange, WrongType};
    const INPUT: &str = "gen_ai.usage.input_tokens";
    const REASONING: &str = "gen_ai.usage.reasoning.output_tokens";
    const MAX: i64 = 1 << 48;
    for (attributes, code, field) in [
        (attributes!["gen_ai.usage.input_tokens" => -1], Negative, INPUT),
        (attributes!["gen_ai.usage.input_tokens" => MAX + 1], OutOfRange, INPUT),
        (attributes!["gen_ai.usage.input_tokens" => i64::MAX], OutOfRange, INPUT),
        (attributes!["gen_ai.usage.input_tokens" => 1.5], WrongType, INPUT),
        (attributes!["gen_ai.usage.input_tokens" => f64::NAN], WrongType, INPUT),
        (attributes!["gen_ai.usage.input_tokens" => f64::INFINITY], WrongType, INPUT),
        (attributes!["gen_ai.usage.input_tokens" => "many"], WrongType, INPUT),
        (attributes!["gen_ai.usage.input_tokens" => list_value(), "gen_ai.usage.output_tokens" => 1], WrongType, INPUT),
        (attributes!["gen_ai.usage.input_tokens" => MAX, "gen_ai.usage.output_tokens" => 1], OutOfRange, INPUT),
        (
            attributes!["gen_ai.usage.output_tokens" => 9, "gen_ai.usage.reasoning.output_tokens" => 10],
            OutOfRange,
            REASONING,
        ),
        (
            attributes!["gen_ai.usage.cache_write.input_tokens" => 1],
            OutOfRange,
            "gen_ai.usage.cache_write.input_tokens",
        ),
    ] {
        let decoded = read(vec![span(1, attributes.clone())]);
        assert_eq!((decoded.events.len(), decoded.rejected), (0, 1), "{attributes:?}");
        let rejection = &decoded.reasons[0].rejection;
        assert_eq!((rejection.code, rejection.field.as_deref()), (code, Some(field)), "{attributes:?}");
    }
    let mut early = span(1, attributes!["gen_ai.usage.input_tokens" => 1]);
    early.end_time_unix_nano = 0;
    let rejection = &read(vec![early]).reasons[0].rejection;
    assert_eq!((rejection.code, rejection.field.as_deref()), (BadTime, Some("endTimeUnixNano")));
}

#[test]
fn a_wrong_span_costs_no_neighbour_and_is_named_by_its_place() {
    let good = || attributes!["gen_ai.usage.input_tokens" => 1];
    let bad = || attributes!["gen_ai.usage.input_tokens" => -1];
    let mut spans = vec![span(1, good())];
    spans.extend((2..=20).map(|number| span(number, bad())));
    spans.push(span(21, good()));
    let decoded = read(spans);
    assert_eq!((decoded.events.len(), decoded.rejected), (2, 19));
    // Reasons are bounded; the first is that of the second span.
    assert_eq!((decoded.reasons.len(), decoded.reasons[0].index), (8, 1));
}
