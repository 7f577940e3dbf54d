//! The SQL views are what `docs/sql.md` says they are.

use std::collections::BTreeMap;

use serde_json::json;

use crate::common::events::event;
use crate::common::{Server, repository, wait_until_eq};

/// A column as the page writes it: its name, its type, whether it can be null.
type Column = (String, String, bool);

/// The views of the page.
fn documented() -> BTreeMap<String, Vec<Column>> {
    let page = std::fs::read_to_string(repository("docs/sql.md")).unwrap();
    let mut views: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    let mut view = None;
    for line in page.lines() {
        if line.starts_with('#') {
            view = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`')).map(str::to_owned);
            views.extend(view.clone().map(|name| (name, Vec::new())));
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ([_, name, kind, ..], Some(view)) = (cells.as_slice(), &view)
            && let Some(name) = name.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'))
        {
            let (kind, nullable) = kind.strip_suffix(", null").map_or((*kind, false), |kind| (kind, true));
            views.get_mut(view).unwrap().push((name.to_owned(), kind.to_owned(), nullable));
        }
    }
    // The page says so of this one instead of repeating a table.
    views.insert("too_late".to_owned(), views["usage"].clone());
    views
}

/// The page's name of a type of Arrow.
fn kind(arrow: &str) -> &str {
    match arrow {
        "Utf8View" => "text",
        "Int64" => "bigint",
        "Int32" => "integer",
        "Date32" => "date",
        "Boolean" => "boolean",
        "Timestamp(µs, \"UTC\")" => "timestamp",
        "Decimal128(38, 12)" => "decimal(38,12)",
        "Decimal128(38, 9)" => "decimal(38,9)",
        other => other,
    }
}

#[test]
fn the_page_on_sql_has_every_view_with_its_columns_and_their_types() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let rows = server.sql(
        "select table_name, column_name, data_type, is_nullable from information_schema.columns \
         where table_schema = 'public' order by table_name, ordinal_position",
    );
    let mut found: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let column = (text("column_name"), kind(&text("data_type")).to_owned(), row["is_nullable"] == "YES");
        found.entry(text("table_name")).or_default().push(column);
    }
    let documented = documented();
    assert_eq!(found.keys().collect::<Vec<_>>(), documented.keys().collect::<Vec<_>>());
    for (view, columns) in found {
        assert_eq!(columns, documented[&view], "{view}");
    }
}

#[test]
fn every_view_has_the_rows_that_its_page_promises() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = dir.path().join("budgets.yaml");
    let text = "budgets:\n  - id: small\n    match: { namespace: lab }\n    window: { every: month, zone: UTC }\n    limit: { tokens: 10 }\n    \
                alerts: { at: [0.8], to: [ops@example.com] }\n";
    std::fs::write(&budgets, text).unwrap();
    let server = Server::start(&dir.path().join("data"), &["--budgets", budgets.to_str().unwrap()]);
    server.post_event(&event("one", "lab", 20));
    crate::common::kafka::publish(&server.log, "usage.events", &[("", b"no event")]);
    let count = |view: &str, condition: &str| {
        server.sql(&format!("select count(*) as n from {view} where {condition}"))[0]["n"].clone()
    };
    for (view, condition) in [
        ("usage", "namespace = 'lab' and total_tokens = 20"),
        ("balances", "budget = 'small' and total_tokens = 20 and \"limit\" = '10'"),
        ("decisions", "budget = 'small' and state = 'blocked' and namespace = 'lab'"),
        ("alerts", "budget = 'small' and threshold = '0.8'"),
        ("budgets", "id = 'small' and mail_to = 'ops@example.com' and thresholds = '0.8'"),
        ("audit", "budget = 'small' and kind = 'decision' and action = 'blocked'"),
        ("rejected", "value = 'no event'"),
    ] {
        wait_until_eq(view, &json!(1), || count(view, condition));
    }
    assert!(count("prices", "price is not null and units > 0 and source is not null").as_i64().unwrap() > 100);
    assert_eq!(count("too_late", "true"), json!(0));
    let accounted = "select sum(accepted + rejected) as n from accounts";
    wait_until_eq("accounted", &json!(2), || server.sql(accounted)[0]["n"].clone());
}
