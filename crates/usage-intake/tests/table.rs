//! Rows of tables as events: names of columns, cells, and rows of a lake.

use usage_intake::{Headers, Intake, TableColumns, TableRow};
use usage_types::{Rejection, UsageEvent};

fn row(names: &[&str], cells: &[&str]) -> Result<TableRow, Rejection> {
    let cells: Vec<Option<&str>> = cells.iter().map(|cell| Some(*cell)).collect();
    TableColumns::new(names.iter().copied(), false)?.row(&cells)
}

fn json(names: &[&str], cells: &[&str]) -> String {
    match row(names, cells) {
        Ok(TableRow::Event(json)) => json,
        other => panic!("{other:?}"),
    }
}

fn read(json: &str) -> Result<UsageEvent<'_>, Rejection> {
    Intake::default().decode_record(Some(json.as_bytes()), &Headers::NONE, None)
}

#[test]
fn a_row_is_the_event_that_its_columns_name_whatever_their_order() {
    let names = [
        "tokens.output",
        "time",
        "tags.env",
        "namespace",
        "cost.currency",
        "tokens.input",
        "model",
        "tags.build no.",
        "cost.amount",
        "compute_seconds",
        "id",
        "backfill",
        "requests",
        "team",
    ];
    let cells = [
        "80",
        "2026-01-02T03:04:05Z",
        "ci",
        "a \"b\", c",
        "USD",
        " 0900 ",
        "gpt-5.1",
        "7",
        "0.0000000125",
        "1.5",
        "x-1",
        "True",
        "2.0",
        "",
    ];
    let of_row = json(&names, &cells);
    let by_hand = r#"{"id":"x-1","time":"2026-01-02T03:04:05Z","namespace":"a \"b\", c","model":"gpt-5.1","backfill":true,
        "tokens":{"input":900,"output":80},"requests":2,"compute_seconds":"1.5","cost":{"amount":"0.0000000125","currency":"USD"},
        "tags":{"env":"ci","build no.":"7"}}"#;
    assert_eq!(read(&of_row).unwrap(), read(by_hand).unwrap());
}

#[test]
fn the_lakes_names_mean_the_same_and_what_is_empty_is_absent() {
    let lake = ["time", "namespace", "input_tokens", "cache_write_1h_tokens", "cost", "currency", "tags", "images"];
    let native = [
        "time",
        "namespace",
        "tokens.input",
        "tokens.cache_write_1h",
        "cost.amount",
        "cost.currency",
        "tags",
        "images",
    ];
    let cells = ["2026-01-02T03:04:05Z", "a", "5", "6", "0.5", "EUR", r#"{"env":"ci"}"#, "1"];
    assert_eq!(json(&lake, &cells), json(&native, &cells));
    // A currency without an amount is no cost.
    let unpriced = json(&lake, &["2026-01-02T03:04:05Z", "a", "5", "", "", "EUR", "", ""]);
    assert_eq!(unpriced, r#"{"time":"2026-01-02T03:04:05Z","namespace":"a","tokens":{"input":5}}"#);
}

#[test]
fn a_wrong_cell_is_refused_with_its_field() {
    for (name, cell, code) in [
        ("tokens.input", "1e3", "wrong_type"),
        ("tokens.input", "1.5", "wrong_type"),
        ("tokens.input", "many", "wrong_type"),
        ("requests", "-", "wrong_type"),
        ("backfill", "yes", "wrong_type"),
        ("usage", "{", "not_json"),
        ("tags", "env", "not_json"),
    ] {
        let rejection = row(&["time", "namespace", name], &["2026-01-02T03:04:05Z", "a", cell]).unwrap_err();
        assert_eq!((rejection.code.name(), rejection.field.as_deref()), (code, Some(name)), "{cell}: {rejection}");
    }
    // What JSON can hold is for the event's reader to say.
    for (name, cell, field) in [
        ("tokens.input", "-05", "tokens.input"),
        ("time", "yesterday", "time"),
        ("cost.amount", "1e-3", "cost.amount"),
        ("compute_seconds", "-1", "compute_seconds"),
    ] {
        let names = if name == "time" {
            vec!["time", "namespace", "cost.currency"]
        } else {
            vec!["time", "namespace", "cost.currency", name]
        };
        let time = if name == "time" { cell } else { "2026-01-02T03:04:05Z" };
        let cells = if name == "time" { vec![time, "a", "USD"] } else { vec![time, "a", "USD", cell] };
        let json = json(&names, &cells);
        assert_eq!(read(&json).unwrap_err().field.as_deref(), Some(field), "{json}");
    }
    let rejection = row(&["time", "namespace"], &["2026-01-02T03:04:05Z"]).unwrap_err();
    assert!(rejection.message.contains("1 cells in a table of 2"), "{rejection}");
}

#[test]
fn a_column_that_nobody_knows_or_two_of_one_field_are_refused() {
    let rejection = TableColumns::new(["time", "token.input"], false).unwrap_err();
    assert_eq!(rejection.field.as_deref(), Some("token.input"));
    assert!(rejection.message.contains("tokens.input"), "{rejection}");
    let skipping = TableColumns::new(["time", "token.input"], true).unwrap();
    assert_eq!(skipping.unknown(), ["token.input"]);
    assert!(skipping.is_read(0) && !skipping.is_read(1));
    for names in [
        ["tokens.input", "input_tokens"],
        ["cost", "cost.amount"],
        ["tags", "tags.a"],
        ["tags.a", "tags"],
        ["id", "id"],
    ] {
        let rejection = TableColumns::new(names, true).unwrap_err();
        assert_eq!(rejection.field.as_deref(), Some(names[1]), "{rejection}");
    }
    // These say how a row of a lake came to be; elsewhere they are unknown.
    assert!(TableColumns::new(["late"], false).is_err());
    assert!(TableColumns::new(["late", "kind"], false).unwrap().is_lake());
}

#[test]
fn a_row_of_a_lake_is_what_counts_and_a_reversal_names_what_it_takes_back() {
    let names = [
        "id",
        "source",
        "time",
        "namespace",
        "kind",
        "corrects",
        "reverses",
        "input_tokens",
        "cost",
        "currency",
        "late",
    ];
    let of = |kind: &str, corrects: &str, reverses: &str, tokens: &str, cost: &str| {
        row(&names, &["m-1", "gw", "2026-01-02T03:04:05Z", "a", kind, corrects, reverses, tokens, cost, "USD", "true"])
            .unwrap()
    };
    let event = |tokens: &str, more: &str| {
        let head = r#"{"id":"m-1","source":"gw","time":"2026-01-02T03:04:05Z","namespace":"a""#;
        TableRow::Event(format!(r#"{head},"tokens":{{"input":{tokens}}}{more}}}"#))
    };
    for kind in ["usage", "backfill", ""] {
        assert_eq!(of(kind, "", "", "5", ""), event("5", ""));
    }
    assert_eq!(of("amendment", "e-1", "e-1", "5", ""), event("5", ""));
    let reversal = TableRow::Reversal { source: "gw".into(), reverses: "e-1".into() };
    assert_eq!(of("reversal", "e-1", "e-1", "-5", "-1"), reversal);
    let TableRow::Event(adjustment) = of("adjustment", "reprice-1", "", "0", "-0.5") else { panic!() };
    let read = read(&adjustment).unwrap();
    assert_eq!(read.role, usage_types::Role::Adjusts("reprice-1".into()));
    let missing = row(&names, &["m", "", "", "", "reversal", "e", "", "", "", "", ""]).unwrap_err();
    assert_eq!(missing.field.as_deref(), Some("reverses"));
    let unknown = row(&names, &["m", "", "", "", "usages", "e", "", "", "", "", ""]).unwrap_err();
    assert_eq!(unknown.field.as_deref(), Some("kind"));
}
