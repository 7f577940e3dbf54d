//! Creating and checking topics.

use std::collections::BTreeMap;

use event_log::{ensure_topics, topics};
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};

use crate::broker::{admin, block_on, config, spec};

/// Settings of a topic as the broker tells them.
fn settings(topic: &str) -> BTreeMap<String, String> {
    let answers = block_on(admin().describe_configs(&[ResourceSpecifier::Topic(topic)], &AdminOptions::new())).unwrap();
    let resource = answers.into_iter().next().unwrap().unwrap();
    resource.entries.into_iter().map(|entry| (entry.name, entry.value.unwrap_or_default())).collect()
}

#[test]
fn missing_topics_are_created_with_their_policies_and_a_second_run_changes_nothing() {
    let first = block_on(ensure_topics(&config(), &topics::all(6))).unwrap();
    let found: Vec<_> = first.iter().map(|report| (report.name.as_str(), report.partitions, report.created)).collect();
    assert_eq!(
        found,
        [
            ("usage.events", 6, true),
            ("usage.rejected", 6, true),
            ("usage.decisions", 1, true),
            ("usage.alerts", 1, true),
            ("usage.balances", 6, true),
        ]
    );
    for (topic, policy) in [
        ("usage.events", "delete"),
        ("usage.rejected", "delete"),
        ("usage.decisions", "compact"),
        ("usage.alerts", "compact"),
        ("usage.balances", "compact"),
    ] {
        let settings = settings(topic);
        assert_eq!(settings["cleanup.policy"], policy, "{topic}");
        assert_eq!(settings["message.timestamp.type"], "LogAppendTime", "{topic}");
    }

    // Other wishes do not change what is there.
    let second = block_on(ensure_topics(&config(), &topics::all(9))).unwrap();
    for (first, second) in first.iter().zip(&second) {
        assert_eq!((&second.name, second.partitions, second.created), (&first.name, first.partitions, false));
        assert_eq!(second.warnings, Vec::<String>::new());
    }
}

#[test]
fn an_existing_topic_with_wrong_settings_is_left_alone_and_warned_about() {
    let name = "warned-about";
    let topic = NewTopic::new(name, 2, TopicReplication::Fixed(1)).set("cleanup.policy", "delete");
    let topic = topic.set("message.timestamp.type", "CreateTime");
    block_on(admin().create_topics(&[topic], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();

    let wanted = [("cleanup.policy", "compact"), ("message.timestamp.type", "LogAppendTime")];
    let new = spec("not-warned-about", 1, &wanted);
    let reports = block_on(ensure_topics(&config(), &[new, spec(name, 1, &wanted)])).unwrap();

    assert_eq!(reports[0].warnings, Vec::<String>::new());
    let report = &reports[1];
    assert_eq!((report.created, report.partitions, report.warnings.len()), (false, 2, 2), "{report:?}");
    assert!(report.warnings[0].contains("cleanup.policy=delete, not compact"), "{report:?}");
    assert!(report.warnings[1].contains("message.timestamp.type=CreateTime, not LogAppendTime"), "{report:?}");
    assert_eq!(settings(name)["cleanup.policy"], "delete");
}

#[test]
fn a_topic_that_the_broker_refuses_is_an_error_that_names_it() {
    let error =
        block_on(ensure_topics(&config(), &[spec("refused", 1, &[("cleanup.policy", "none-such")])])).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}
