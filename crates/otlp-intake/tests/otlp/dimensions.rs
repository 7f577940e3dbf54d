//! Attributes to dimensions: the order of names, the order of places, and what is missing or wrong.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use otlp_intake::{Decoded, OtlpMap};
use usage_intake::IntakeConfig;
use usage_types::{Dimension, RejectCode};

use crate::attributes;
use crate::support::{pair, read_with, span};

fn read(resource: Vec<KeyValue>, own: Vec<KeyValue>, map: &OtlpMap) -> Decoded {
    let mut attributes = attributes!["gen_ai.usage.input_tokens" => 1];
    attributes.extend(own);
    read_with(resource, "the-scope", vec![span(1, attributes)], map)
}

#[test]
fn the_first_name_that_is_there_counts_and_the_span_goes_before_the_resource() {
    let map = OtlpMap::default();
    for (resource, own, dimension, value) in [
        (attributes!["service.namespace" => "shop"], vec![], Dimension::Namespace, "shop"),
        (
            attributes!["service.namespace" => "shop", "outlay.namespace" => "sales"],
            vec![],
            Dimension::Namespace,
            "sales",
        ),
        (attributes!["outlay.namespace" => "a"], attributes!["outlay.namespace" => "b"], Dimension::Namespace, "b"),
        // The better name on the resource goes before a lesser one on the span.
        (attributes!["outlay.namespace" => "a"], attributes!["service.namespace" => "b"], Dimension::Namespace, "a"),
        (attributes!["service.namespace" => "n", "team.id" => "platform"], vec![], Dimension::Team, "platform"),
        (
            attributes!["service.namespace" => "n", "vcs.repository.url.full" => "https://example.com/acme/bot"],
            vec![],
            Dimension::Repository,
            "https://example.com/acme/bot",
        ),
        (attributes!["service.namespace" => "n"], attributes!["user.id" => 17], Dimension::User, "17"),
        (
            attributes!["service.namespace" => "n"],
            attributes!["gen_ai.agent.id" => "asst_1", "gen_ai.agent.name" => "triage"],
            Dimension::Agent,
            "triage",
        ),
        (
            attributes!["service.namespace" => "n"],
            attributes!["gen_ai.conversation.id" => "conv_1"],
            Dimension::Session,
            "conv_1",
        ),
        (
            attributes!["service.namespace" => "n", "outlay.job" => "nightly", "outlay.task" => ""],
            vec![],
            Dimension::Job,
            "nightly",
        ),
    ] {
        let decoded = read(resource.clone(), own.clone(), &map);
        assert_eq!(decoded.events[0].dimensions.get(dimension), Some(value), "{resource:?} {own:?}");
    }
}

#[test]
fn names_are_the_operators_to_set() {
    let map = OtlpMap {
        dimensions: vec![(Dimension::Namespace, vec!["k8s.namespace.name".to_owned()])],
        default_namespace: String::new(),
        tags: vec!["region".to_owned()],
        ..OtlpMap::default()
    };
    let resource = attributes!["k8s.namespace.name" => "prod", "service.namespace" => "other", "region" => "eu"];
    let event = read(resource, vec![], &map).events.remove(0);
    assert_eq!(event.dimensions.get(Dimension::Namespace), Some("prod"));
    assert_eq!(event.tags.into_iter().collect::<Vec<_>>(), [("region".into(), "eu".into())]);
}

#[test]
fn the_intake_file_says_what_is_a_tag_what_counts_and_whose_input_leaves_the_cache_out() {
    let config = IntakeConfig::from_yaml(
        "opentelemetry: { tags: region, operations: [transcribe], input_excludes_cache: [the-scope] }",
    );
    let map = config.unwrap().opentelemetry;
    let span_of = |operation: &str| {
        let own = attributes![
            "gen_ai.operation.name" => operation,
            "gen_ai.usage.input_tokens" => 5,
            "gen_ai.usage.cache_read.input_tokens" => 20,
            "region" => "eu",
        ];
        vec![span(1, own)]
    };
    let event = read_with(vec![], "the-scope", span_of("transcribe"), &map).events.remove(0);
    assert_eq!((event.tokens.input, event.tokens.cache_read), (5, 20));
    assert_eq!(event.tags.into_iter().collect::<Vec<_>>(), [("region".into(), "eu".into())]);
    let decoded = read_with(vec![], "the-scope", span_of("chat"), &map);
    assert_eq!((decoded.events.len(), decoded.unknown_operation.as_deref()), (0, Some("chat")));
    let defaults = read_with(vec![], "the-scope", span_of("chat"), &OtlpMap::default());
    assert_eq!(defaults.rejected, 1, "by the conventions no cache is larger than the input");
}

#[test]
fn without_a_namespace_usage_is_refused_or_goes_to_the_default() {
    let mut map = OtlpMap { default_namespace: String::new(), ..OtlpMap::default() };
    for resource in [vec![], attributes!["outlay.namespace" => "", "service.namespace" => "  "]] {
        let decoded = read(resource, vec![], &map);
        let rejection = &decoded.reasons[0].rejection;
        assert_eq!((rejection.code, rejection.field.as_deref()), (RejectCode::MissingField, Some("outlay.namespace")));
        assert!(rejection.message.contains("OTEL_RESOURCE_ATTRIBUTES=outlay.namespace="), "{rejection}");
    }
    map.default_namespace = "unassigned".to_owned();
    assert_eq!(read(vec![], vec![], &map).events[0].dimensions.get(Dimension::Namespace), Some("unassigned"));
}

#[test]
fn the_source_is_the_service_or_the_scope() {
    let map = OtlpMap::default();
    assert_eq!(read(attributes!["service.name" => "bot"], vec![], &map).events[0].source, "bot");
    assert_eq!(read(vec![], vec![], &map).events[0].source, "the-scope");
}

#[test]
fn a_text_that_no_event_may_have_is_refused_with_its_name() {
    let map = OtlpMap::default();
    let long = "x".repeat(1025);
    for (name, value) in [
        ("gen_ai.agent.name", long.as_str()),
        ("gen_ai.response.model", "gpt\n5"),
        ("gen_ai.response.id", "0123456789abcdef\u{0}"),
        ("user.id", "\u{85}"),
    ] {
        let decoded = read(vec![], vec![pair(name, value)], &map);
        let rejection = &decoded.reasons[0].rejection;
        assert_eq!((rejection.code, rejection.field.as_deref()), (RejectCode::OutOfRange, Some(name)));
        assert!(rejection.message.len() < 500 && !rejection.message.contains(char::is_control), "{rejection}");
    }
    let decoded = read(vec![], vec![pair("gen_ai.agent.name", &long[..1024])], &map);
    assert_eq!(decoded.events.len(), 1);
}
