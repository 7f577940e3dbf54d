//! What a file may say, by its reader and by `schemas/allocation.v1.json` alike.

use cost_allocation::Allocation;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../../schemas/allocation.v1.json");

fn file(rule: &str) -> String {
    format!("allocations:\n  - {{ id: r, {rule} }}\n")
}

/// What the schema has against a file.
fn schema_errors(text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).expect("a schema is JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let value: Value = serde_saphyr::from_str(text).expect("YAML");
    validator.iter_errors(&value).map(|error| error.to_string()).collect()
}

/// Each rule with the field that is refused, what is said, and whether the schema sees it, too.
const BAD: &[(&str, &str, &str)] = &[
    ("share: { fee: 3 USD }, split: cost", "from", "from which date"),
    ("from: 2026-11-15, share: { fee: 3 USD }, split: cost", "from", "not the first of a month"),
    ("from: 2026-11-01, to: 2026-11-01, share: { fee: 3 USD }, split: cost", "to", "not after"),
    ("from: november, share: { fee: 3 USD }, split: cost", "from", "no date like"),
    ("from: 2026-11-01, share: { fee: 0 USD }, split: cost", "share.fee", "not more than 0"),
    ("from: 2026-11-01, share: { fee: 3 }, split: cost", "share.fee", "500.00 USD"),
    ("from: 2026-11-01, share: { fee: 3 USD, invoice: openai }, split: cost", "share", "name one"),
    ("from: 2026-11-01, every: day, share: { invoice: openai }, split: cost", "every", "of a month"),
    ("share: {}, split: cost", "share", "name one"),
    ("share: { match: {} }, split: cost", "share", "selects everything"),
    ("share: { match: { apikey: k } }, split: cost", "share.match.apikey", "no dimension"),
    ("share: { match: { api_key: [] } }, split: cost", "share.match.api_key", "one value at least"),
    ("share: { without: [nobody] }, split: cost", "share.without", "no dimension"),
    ("share: { match: { api_key: k } }", "", "write one"),
    ("share: { match: { api_key: k } }, split: weight", "split", "none of even"),
    ("share: { match: { api_key: k } }, split: cost, tag: x", "", "write one"),
    ("share: { match: { api_key: k } }, split: cost, every: week", "every", "neither month nor day"),
    ("share: { match: { api_key: k } }, split: cost, by: []", "by", "one dimension"),
    ("share: { match: { api_key: k } }, tag: x, by: [namespace, team]", "tag", "by one dimension"),
    ("from: 2026-11-01, share: { fee: 3 USD }, tag: x", "tag", "receiver of usage"),
    ("share: { match: { api_key: k } }, tag: x, among: { match: { team: t } }", "among", "named already"),
    ("share: { match: { api_key: k } }, fixed: []", "fixed", "more than 0"),
    ("share: { match: { api_key: k } }, fixed: [{ namespace: a }]", "fixed[0].part", "missing"),
    ("share: { match: { api_key: k } }, fixed: [{ namespace: a, part: -1 }]", "fixed[0].part", "no number"),
    ("share: { match: { api_key: k } }, fixed: [{ namespace: a, part: 0 }]", "fixed", "more than 0"),
    ("share: { match: { api_key: k } }, fixed: [{ part: 1 }]", "fixed", "the same dimensions"),
    (
        "share: { match: { api_key: k } }, fixed: [{ namespace: a, part: 1 }, { team: a, part: 1 }]",
        "fixed",
        "the same dimensions",
    ),
    (
        "share: { match: { api_key: k } }, fixed: [{ namespace: a, part: 1 }, { namespace: a, part: 1 }]",
        "fixed[1]",
        "named twice",
    ),
    ("share: { match: { api_key: k } }, split: cost, splitt: x", "splitt", "unknown field"),
];

/// What a schema cannot express.
const BEYOND_SCHEMA: [&str; 6] =
    ["not the first of a month", "not after", "no date like", "the same dimensions", "named twice", "more than 0"];

#[test]
fn what_is_wrong_in_a_file_is_refused_with_its_field() {
    for (rule, field, says) in BAD {
        let text = file(rule);
        let error = Allocation::from_yaml(&text).expect_err(rule);
        let path = match *field {
            "" => "allocations[0]".to_owned(),
            "splitt" => "splitt".to_owned(),
            field => format!("allocations[0].{field}"),
        };
        assert_eq!(error.field, path, "{rule}: {error}");
        assert!(error.message.contains(says) && error.line == 2, "{rule}: {error}");
        if !BEYOND_SCHEMA.contains(says) {
            assert!(!schema_errors(&text).is_empty(), "the schema takes {rule}");
        }
    }
    let twice = "allocations:\n  - { id: r, share: { match: { user: u } }, split: even }\n  - { id: r, share: { without: [user] }, split: even }";
    let error = Allocation::from_yaml(twice).unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (3, "allocations[1].id"));
}

#[test]
fn what_is_right_is_read_and_the_schema_takes_it() {
    assert!(jsonschema::draft202012::meta::is_valid(&serde_json::from_str(SCHEMA).expect("JSON")));
    for rule in [
        "from: 2026-01-01, share: { fee: 3000.00 USD }, split: cost, note: the gateway",
        "from: \"2026-01-01\", to: 2027-01-01, every: month, share: { fee: \"0.5 EUR\" }, split: even, by: [namespace, team]",
        "every: day, from: 2026-01-15, share: { fee: 1 USD }, split: tokens, among: { match: { team: [a, b] }, without: user }",
        "share: { match: { api_key: k, provider: [p, q] }, without: [user] }, split: tokens, by: team",
        "share: { without: [team] }, fixed: [{ team: a, part: 33.3 }, { team: b, part: \"66.7\" }]",
        "share: { without: [team] }, fixed: [{ namespace: ns, team: a, part: 0 }, { namespace: ns, team: b, part: 1 }], by: [team, namespace]",
        "share: { match: { agent: bot } }, tag: cost_center",
        "from: 2026-10-01, share: { invoice: openai }, split: cost",
    ] {
        let text = file(rule);
        let read = Allocation::from_yaml(&text).unwrap_or_else(|error| panic!("{rule}: {error}"));
        assert_eq!((read.rules.len(), schema_errors(&text)), (1, vec![]), "{rule}");
    }
    let example = include_str!("../../../examples/allocation.yaml");
    assert_eq!(Allocation::from_yaml(example).map(|read| read.rules.len()), Ok(5));
    assert_eq!(schema_errors(example), Vec::<String>::new());
    assert_eq!(Allocation::from_yaml("allocations: []"), Ok(Allocation::default()));
}
