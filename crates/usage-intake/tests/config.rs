//! The configuration of the formats of others: what is set is taken, what is not has its default, and what is wrong is refused by its place.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use usage_intake::{DataPath, DataSource, IntakeConfig, MappedMeasure};
use usage_types::{Dimension, TokenClass};

fn check_refused(text: &str, line: u64, field: &str, says: &str) {
    let error = IntakeConfig::from_yaml(text).expect_err(text);
    assert_eq!((error.line, error.field.as_str()), (line, field), "{text}: {error}");
    assert!(error.message.contains(says), "{text}: {error}");
    assert!(error.to_string().starts_with(&format!("line {line}, column ")), "{error}");
}

#[test]
fn nothing_set_is_the_default() {
    for text in ["", "# nothing yet\n", "{}", "cloudevents:\nheaders:\nlitellm:\nopentelemetry:\n"] {
        assert_eq!(IntakeConfig::from_yaml(text).unwrap(), IntakeConfig::default(), "{text:?}");
    }
}

#[test]
fn the_default_names_every_dimension_in_opentelemetry_and_every_header() {
    let config = IntakeConfig::default();
    for dimension in Dimension::ALL {
        assert_eq!(config.opentelemetry.names(dimension)[0], format!("outlay.{dimension}"));
        assert!(config.headers.contains(&(dimension.header().to_owned(), dimension)));
    }
    let names = |dimension| config.opentelemetry.names(dimension).join(" ");
    assert_eq!(names(Dimension::Team), "outlay.team team.name team.id");
    assert_eq!(names(Dimension::Session), "outlay.session gen_ai.conversation.id session.id");
    assert_eq!(config.opentelemetry.default_namespace, "default");
    assert!(config.cloudevents[0].is_for("litellm_tokens") && !config.cloudevents[0].is_for("litellm_tokens2"));
}

#[test]
fn what_is_set_takes_the_place_of_its_default_alone() {
    let config = IntakeConfig::from_yaml(
        r#"
cloudevents:
  - type: prompt.*
    subject: user
    dimensions:
      namespace: "$.tenant.name"
      provider: { value: openai }
    measures:
      input: $.tokens.in
      output: $.tokens.out
      requests: { value: 1 }
      cost: { amount: $.cost, currency: EUR }
    tags: { env: $.env }
    includes_cache: true
  - type: job
    usage: $
    usage_format: anthropic
headers:
  X-Team: team
litellm:
  default_namespace: gateway
  cost: event
  dimensions:
    team: [team_id]
    user: user_api_key_user_email
opentelemetry:
  default_namespace: traced
  attributes: { namespace: [k8s.namespace.name, service.name] }
  tags: [deployment.environment.name, region]
  operations: [chat, transcribe]
  input_excludes_cache: acme.tracer
  claude_code_cost: price_book
"#,
    )
    .unwrap();
    let map = &config.cloudevents[0];
    assert!(map.is_for("prompt.done") && map.is_for("prompt.") && !map.is_for("prompt"));
    assert_eq!((map.subject, map.includes_cache, map.includes_reasoning), (Some(Dimension::User), true, false));
    assert_eq!(map.dimensions[1], (Dimension::Provider, DataSource::Value("openai".to_owned())));
    let measures: Vec<_> = map.measures.iter().map(|(measure, _)| *measure).collect();
    assert_eq!(
        measures,
        [MappedMeasure::Tokens(TokenClass::Input), MappedMeasure::Tokens(TokenClass::Output), MappedMeasure::Requests]
    );
    assert_eq!(
        map.cost.as_ref().map(|cost| (cost.currency.as_str().to_owned(), cost.as_tag.clone())),
        Some(("EUR".to_owned(), None))
    );
    assert_eq!(config.cloudevents[1].usage, Some(DataPath::default()));
    // The built-in mapping is last, and knows the namespace that is set.
    assert_eq!(config.cloudevents[2].event_type, "litellm_tokens");
    assert_eq!(config.cloudevents[2].dimensions[0], (Dimension::Namespace, DataSource::Value("gateway".to_owned())));
    assert_eq!(config.headers[0], ("x-team".to_owned(), Dimension::Team));
    assert_eq!(config.headers.len(), 1 + Dimension::COUNT + 2);
    let policy = IntakeConfig::from_yaml("headers: { x-policy-user: team }").unwrap();
    let means = |name: &str| policy.headers.iter().filter(|(is, _)| is == name).map(|(_, d)| *d).collect::<Vec<_>>();
    assert_eq!(
        (means("x-policy-user"), means("x-policy-project")),
        (vec![Dimension::Team], vec![Dimension::Namespace])
    );
    let of = |dimension| config.litellm.dimensions.iter().find(|(is, _)| *is == dimension).unwrap().1.join(" ");
    assert_eq!(
        (of(Dimension::Team), of(Dimension::User)),
        ("team_id".to_owned(), "user_api_key_user_email".to_owned())
    );
    assert_eq!(of(Dimension::ApiKey), "user_api_key_alias user_api_key_hash");
    assert!(config.litellm.cost_counts);
    assert_eq!(config.opentelemetry.names(Dimension::Namespace), ["k8s.namespace.name", "service.name"]);
    assert_eq!(config.opentelemetry.names(Dimension::Team).len(), 3);
    assert_eq!(config.opentelemetry.default_namespace, "traced");
    assert_eq!(config.opentelemetry.tags, ["deployment.environment.name", "region"]);
    assert_eq!(config.opentelemetry.operations, ["chat", "transcribe"]);
    assert_eq!(config.opentelemetry.input_excludes_cache, ["acme.tracer"]);
    assert!(!config.opentelemetry.claude_code_cost);
    let none =
        IntakeConfig::from_yaml("opentelemetry: { tags: [], input_excludes_cache: [], claude_code_cost: event }");
    let none = none.unwrap().opentelemetry;
    assert_eq!((none.tags.len(), none.input_excludes_cache.len(), none.claude_code_cost), (0, 0, true));
}

#[test]
fn what_is_wrong_is_refused_with_its_line_and_field() {
    let map = |rest: &str| format!("cloudevents:\n  - type: a\n    {rest}\n");
    check_refused("cloudevent: []", 1, "cloudevent", "cloudevents");
    check_refused("cloudevents: 5", 1, "cloudevents", "");
    check_refused("cloudevents:\n  - subject: user\n", 2, "type", "missing");
    check_refused("headers: [", 1, "headers", "");
    check_refused(&map("subject: tenant"), 3, "cloudevents[0].subject", "no dimension");
    check_refused(&map("dimensions: { tenant: $.t }"), 3, "cloudevents[0].dimensions.tenant", "no dimension");
    check_refused(&map("dimensions: { user: user }"), 3, "cloudevents[0].dimensions.user", "no path");
    check_refused(
        &map("dimensions: { user: { value: \"\" } }"),
        3,
        "cloudevents[0].dimensions.user",
        "nothing is written",
    );
    check_refused(&map("measures: { input: \"$.a[0]\" }"), 3, "cloudevents[0].measures.input", "no path");
    check_refused(
        &map("measures: { requests: { value: many } }"),
        3,
        "cloudevents[0].measures.requests",
        "whole number",
    );
    check_refused(&map("measures: { tokens: $.a }"), 3, "tokens", "");
    check_refused(
        &map("measures: { cost: { amount: $.c, currency: usd } }"),
        3,
        "cloudevents[0].measures.cost.currency",
        "currency",
    );
    check_refused(&map("usage_format: cohere"), 3, "cloudevents[0].usage_format", "openai");
    check_refused(&map("includes_cache: true"), 2, "cloudevents[0].measures", "no measure");
    check_refused(&map("usage: $.u\n    measures: { input: $.i }"), 2, "cloudevents[0].usage", "already");
    check_refused("cloudevents:\n  - type: a*b\n    usage: $", 2, "cloudevents[0].type", "at the end");
    check_refused("headers:\n  x-team: crew", 2, "headers.x-team", "no dimension");
    check_refused("headers:\n  ce_type: team", 2, "headers.ce_type", "of its own");
    check_refused("headers:\n  \"a b\": team", 2, "headers.a b", "no header");
    check_refused("litellm:\n  cost: free", 2, "litellm.cost", "price_book");
    check_refused("litellm:\n  dimensions: { team: [\"\"] }", 2, "litellm.dimensions.team", "empty");
    check_refused("litellm:\n  default_namespace: \" \"", 2, "litellm.default_namespace", "nothing is written");
    check_refused("opentelemetry:\n  attributes: { tenant: a }", 2, "opentelemetry.attributes.tenant", "no dimension");
    let otlp = |rest: &str| format!("opentelemetry:\n  default_namespace: a\n  {rest}\n");
    check_refused(&otlp("tag: [a]"), 3, "tag", "tags");
    check_refused(&otlp("tags: { a: b }"), 3, "tags", "a name or a list of names");
    check_refused(&otlp("tags: [region, \"\"]"), 3, "opentelemetry.tags", "nothing is written");
    let many: Vec<String> = (0..65).map(|at| format!("t{at}")).collect();
    check_refused(&otlp(&format!("tags: [{}]", many.join(", "))), 3, "opentelemetry.tags", "64");
    check_refused(&otlp("operations: []"), 3, "opentelemetry.operations", "chat");
    check_refused(&otlp("operations: [\"a\\nb\"]"), 3, "opentelemetry.operations", "control character");
    check_refused(
        &otlp("input_excludes_cache: [\" \"]"),
        3,
        "opentelemetry.input_excludes_cache",
        "nothing is written",
    );
    check_refused(&otlp("claude_code_cost: true"), 3, "opentelemetry.claude_code_cost", "price_book");
    check_refused(&"#".repeat(1024 * 1024 + 1), 0, "", "more than");
}

#[test]
fn the_example_is_a_configuration_and_counts_what_it_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/intake.yaml");
    let config = IntakeConfig::from_yaml(&std::fs::read_to_string(path).unwrap()).unwrap();
    let intake = usage_intake::Intake { config, ..usage_intake::Intake::default() };
    let decode = |event: &str| {
        let headers = [("content-type", b"application/cloudevents+json".as_slice())];
        let event = intake.decode_record(Some(event.as_bytes()), &usage_intake::Headers::new(&headers), None).unwrap();
        (event.dimensions.get(Dimension::Namespace).unwrap().to_owned(), event.tokens, event.requests)
    };
    let (namespace, tokens, requests) = decode(
        r#"{"specversion":"1.0","type":"prompt.input","id":"1","source":"app","time":"2026-11-21T10:00:00Z","subject":"acme","data":{"tokens":"900","model":"gpt-5.1"}}"#,
    );
    assert_eq!((namespace.as_str(), tokens.input, tokens.total(), requests), ("acme", 900, 900, 1));
    let (_, tokens, requests) = decode(
        r#"{"specversion":"1.0","type":"prompt.output","id":"2","source":"app","time":"2026-11-21T10:00:00Z","subject":"acme","data":{"tokens":80,"model":"gpt-5.1"}}"#,
    );
    assert_eq!((tokens.output, tokens.total(), requests), (80, 80, 0), "the prompt was the request");
    let (namespace, tokens, _) = decode(
        r#"{"specversion":"1.0","type":"gateway.completion","id":"3","source":"app","time":"2026-11-21T10:00:00Z","subject":"anna","data":{"tenant":"acme","response":{"model":"gpt-5.1","usage":{"prompt_tokens":100,"completion_tokens":7,"total_tokens":107,"prompt_tokens_details":{"cached_tokens":60}}}}}"#,
    );
    assert_eq!((namespace.as_str(), tokens.input, tokens.cache_read, tokens.output), ("acme", 40, 60, 7));
}
