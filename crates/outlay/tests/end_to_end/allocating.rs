//! Shared cost: a chargeback whose parts add up to the provider's invoice and the fees, and the reconciliation of that invoice.

use std::path::Path;

use chrono::Utc;
use serde_json::{Value, json};

use crate::common::events::event_with;
use crate::common::{Server, pico, wait_until_eq};

/// A server with usage of one moment, whose rules share a fee, a key, and what openai's invoice has more. Its month and day, too.
fn server(dir: &Path) -> (Server, String, String) {
    let now = Utc::now();
    let (month, day) = (now.format("%Y-%m").to_string(), now.format("%Y-%m-%d").to_string());
    let file = dir.join("allocation.yaml");
    let rules = format!(
        "allocations:\n  - {{ id: fee, from: {month}-01, share: {{ fee: 0.1 USD }}, split: even }}\n  \
         - {{ id: key, share: {{ match: {{ api_key: k-shared }} }}, split: tokens }}\n  \
         - {{ id: rest, from: {month}-01, share: {{ invoice: openai }}, split: cost }}\n"
    );
    std::fs::write(&file, rules).unwrap();
    let server = Server::start(&dir.join("data"), &["--allocation", file.to_str().unwrap()]);
    for (id, namespace, tokens, cost, more) in [
        ("a", "support", 600, "2", json!({"team": "x"})),
        ("b", "research", 300, "4", json!({"team": "y"})),
        ("c", "gateway", 100, "1", json!({"api_key": "k-shared"})),
        ("d", "support", 50, "", json!({})),
    ] {
        let mut event = event_with(id, namespace, tokens, more);
        event["time"] = now.to_rfc3339().into();
        event["provider"] = "openai".into();
        event["model"] = "some-model".into();
        if !cost.is_empty() {
            event["cost"] = json!({"amount": cost, "currency": "USD"});
        }
        server.post_event(&event);
    }
    wait_until_eq("four events", &json!("4"), || {
        server.sql("select cast(count(*) as text) as n from usage")[0]["n"].clone()
    });
    (server, month, day)
}

fn report(server: &Server, name: &str, more: &str) -> Vec<Value> {
    server.get_json(&format!("/v1/reports/{name}?{more}")).as_array().unwrap().clone()
}

/// Keeps an invoice with a line of this day, of which the rest is not itemised.
fn invoice(server: &Server, month: &str, day: &str, total: &str) {
    let body = json!({"month": month, "currency": "USD", "total": total,
                      "lines": [{"day": day, "model": "some-model", "cost": "6.5", "tokens": 1050}]});
    let request = server.client().put(format!("{}/v1/invoices/openai/INV-1", server.url)).body(body.to_string());
    assert!(server.send(request).status < 300);
}

/// Each row as `values… direct + allocated = cost`, in pico-units where it has money.
fn owed(rows: &[Value], dimensions: &[&str]) -> Vec<String> {
    let money =
        |row: &Value, name: &str| row[name].as_str().map_or_else(|| "-".to_owned(), |text| pico(text).to_string());
    let line = |row: &Value| {
        let values: Vec<&str> = dimensions.iter().map(|name| row[*name].as_str().unwrap_or("-")).collect();
        let [direct, allocated, cost] = ["direct_cost", "allocated_cost", "cost"].map(|name| money(row, name));
        format!("{} {direct} + {allocated} = {cost}", values.join(" "))
    };
    rows.iter().map(line).collect()
}

fn total(rows: &[Value], name: &str) -> i128 {
    rows.iter().filter_map(|row| row[name].as_str()).map(pico).sum()
}

#[test]
fn a_chargeback_adds_up_to_the_invoice_and_the_fees() {
    let dir = tempfile::tempdir().unwrap();
    let (server, month, day) = server(dir.path());
    let asked = |more: &str| format!("period={month}{more}");
    // Without an invoice: the fee by halves, the key by 650 and 300 tokens. What has no price bears by its tokens, and stays without cost.
    let rows = report(&server, "chargeback", &asked("&group_by=namespace"));
    let expected = [
        "gateway USD 0 + 0 = 0",
        "research USD 4000000000000 + 365789473684 = 4365789473684",
        "support USD 2000000000000 + 734210526316 = 2734210526316",
        "support - - + 0 = -",
    ];
    assert_eq!(owed(&rows, &["namespace", "currency"]), expected, "{rows:#?}");
    let answer = server.get(&format!("/v1/reports/chargeback?{}", asked("")));
    assert!(
        answer.header("outlay-warning").contains("rest has no invoice of the month"),
        "{:?}",
        answer.header("outlay-warning")
    );

    invoice(&server, &month, &day, "7.7");
    let rows = report(&server, "chargeback", &asked("&group_by=namespace"));
    let expected = [
        "gateway USD 0 + 0 = 0",
        "research USD 4000000000000 + 832456140351 = 4832456140351",
        "support USD 2000000000000 + 967543859649 = 2967543859649",
        "support - - + 0 = -",
    ];
    assert_eq!(owed(&rows, &["namespace", "currency"]), expected, "{rows:#?}");
    assert_eq!((rows[2]["total_tokens"].clone(), rows[0]["total_tokens"].clone()), (json!(600), json!(100)));
    // The invoice's 7.70 and the fee's 0.10, however it is grouped.
    for group_by in ["", "namespace", "namespace,team", "model,user"] {
        let rows = report(&server, "chargeback", &asked(&format!("&group_by={group_by}")));
        assert_eq!(total(&rows, "cost"), pico("7.8"), "{group_by}: {rows:#?}");
        assert_eq!(total(&rows, "direct_cost") + total(&rows, "allocated_cost"), pico("7.8"), "{group_by}");
    }
    let teams = report(&server, "chargeback", &asked("&group_by=namespace,team"));
    let expected = "support - USD 0 + 967543859649 = 967543859649";
    assert!(owed(&teams, &["namespace", "team", "currency"]).contains(&expected.to_owned()), "{teams:#?}");

    let parts = report(&server, "allocation", &asked(""));
    let line = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let amounts =
            ["shared_cost", "weight", "weight_of_all", "allocated_cost"].map(|name| pico(&text(name)).to_string());
        format!("{} {} {} {}", text("rule"), text("namespace"), text("split"), amounts.join(" "))
    };
    let parts: Vec<String> = parts.iter().map(line).collect();
    let expected = [
        "fee research even 100000000000 1000000000000 2000000000000 50000000000",
        "fee support even 100000000000 1000000000000 2000000000000 50000000000",
        "key research tokens 1000000000000 300000000000000 950000000000000 315789473684",
        "key support tokens 1000000000000 650000000000000 950000000000000 684210526316",
        "rest research cost 700000000000 4000000000000 6000000000000 466666666667",
        "rest support cost 700000000000 2000000000000 6000000000000 233333333333",
    ];
    assert_eq!(parts, expected);

    // A day has no whole month in it: nothing is shared, and it is said.
    let answer = server.get(&format!("/v1/reports/chargeback?period={day}&group_by=namespace"));
    assert_eq!(total(answer.json().as_array().unwrap(), "cost"), pico("7"));
    assert!(answer.header("outlay-warning").contains("shares whole months"), "{:?}", answer.header("outlay-warning"));
}

#[test]
fn an_invoice_is_compared_with_what_was_metered_by_day_and_model() {
    let dir = tempfile::tempdir().unwrap();
    let (server, month, day) = server(dir.path());
    invoice(&server, &month, &day, "7.7");
    let rows = |by: &str, period: &str| {
        let line = |row: &Value| {
            let text = |name: &str| match &row[name] {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let money = |name: &str| row[name].as_str().map_or_else(|| "-".to_owned(), |text| pico(text).to_string());
            let costs = ["invoiced_cost", "metered_cost", "cost_difference"].map(money).join(" ");
            let tokens = ["invoiced_tokens", "metered_tokens", "token_difference"].map(text).join(" ");
            format!("{} {} {} {} {costs} {tokens}", text("provider"), text("day"), text("model"), text("currency"))
        };
        report(&server, "reconciliation", &format!("period={period}&by={by}")).iter().map(line).collect::<Vec<_>>()
    };
    let unpriced = |day: &str, model: &str| format!("openai {day} {model} - - - 0 - 50 -");
    assert_eq!(
        rows("day_and_model", &month),
        [
            format!("openai {day} some-model USD 6500000000000 7000000000000 -500000000000 1050 1000 50"),
            unpriced(&day, "some-model"),
            "openai - - USD 1200000000000 - 1200000000000 - - -".to_owned(),
        ]
    );
    let total = "openai - - USD 7700000000000 7000000000000 700000000000 1050 1000 50";
    assert_eq!(rows("total", &month), [total.to_owned(), unpriced("-", "-")]);
    // A line without a day is in no report of less than its month.
    let of_day = format!("openai {day} - USD 6500000000000 7000000000000 -500000000000 1050 1000 50");
    assert_eq!(rows("day", &day), [of_day, unpriced(&day, "-")]);
    let answer = server.get(&format!("/v1/reports/reconciliation?period={month}&by=week")).expect(400);
    assert!(answer.text().contains("use day_and_model or day or model or total"), "{}", answer.text());
}

#[test]
fn rules_of_shared_cost_are_read_for_each_report_and_refused_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let (server, month, _) = server(dir.path());
    let file = dir.path().join("allocation.yaml");
    std::fs::write(
        &file,
        "allocations:\n  - { id: all, share: { without: [user] }, fixed: [{ namespace: z, part: 1 }] }\n",
    )
    .unwrap();
    let rows = report(&server, "chargeback", &format!("period={month}&group_by=namespace"));
    assert!(
        owed(&rows, &["namespace", "currency"]).contains(&"z USD 0 + 7000000000000 = 7000000000000".to_owned()),
        "{rows:#?}"
    );
    std::fs::write(&file, "allocations:\n  - { id: all, share: { without: [usr] }, split: even }\n").unwrap();
    let refused = server.get(&format!("/v1/reports/chargeback?period={month}")).expect(422);
    assert!(
        refused.text().contains("line 2") && refused.text().contains("allocations[0].share.without"),
        "{}",
        refused.text()
    );
    server.stop();
    let plain = Server::start(&dir.path().join("data"), &[]);
    let refused = plain.get(&format!("/v1/reports/allocation?period={month}")).expect(422);
    assert!(refused.text().contains("--allocation FILE"), "{}", refused.text());
    let rows = report(&plain, "chargeback", &format!("period={month}&group_by=namespace"));
    assert!(
        owed(&rows, &["namespace", "currency"]).contains(&"gateway USD 1000000000000 + 0 = 1000000000000".to_owned()),
        "{rows:#?}"
    );
}
