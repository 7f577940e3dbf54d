//! Exports in the providers' documented shapes become lines.

use provider_invoice::{Invoice, Line, Month, read_export};
use usage_types::Currency;

/// Each line as `day model item tokens cost`.
fn lines(text: &str) -> (Vec<String>, Option<Currency>) {
    let export = read_export(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    (export.lines.iter().map(shown).collect(), export.currency)
}

fn shown(line: &Line) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let day = line.day.map(|day| day.to_string());
    let (tokens, cost) = (line.tokens.map(|tokens| tokens.to_string()), line.cost.map(|cost| cost.to_string()));
    format!("{} {} {} {} {}", text(&day), text(&line.model), text(&line.item), text(&tokens), text(&cost))
}

#[test]
fn costs_of_openai_are_read_as_they_are_written() {
    let json = r#"{"object": "page", "has_more": false, "next_page": null, "data": [
        {"object": "bucket", "start_time": 1730419200, "end_time": 1730505600, "results": [
            {"object": "organization.costs.result", "amount": {"value": 0.06, "currency": "usd"},
             "line_item": "gpt-4o-2024-08-06, input", "project_id": null},
            {"object": "organization.costs.result", "amount": {"value": "0.5617712500000000", "currency": "usd"},
             "line_item": "gpt-4o-2024-08-06, output", "project_id": "p"},
            {"object": "organization.costs.result", "amount": {"value": 6e-05, "currency": "usd"},
             "line_item": "web search tool calls", "project_id": null},
            {"object": "organization.costs.result", "amount": {"value": 1, "currency": "usd"}, "line_item": null}]},
        {"object": "bucket", "start_time": 1730505600, "end_time": 1730592000, "results": []}]}"#;
    let expected = [
        "2024-11-01 gpt-4o-2024-08-06 input - 0.06",
        "2024-11-01 gpt-4o-2024-08-06 output - 0.56177125",
        "2024-11-01 - web search tool calls - 0.00006",
        "2024-11-01 - - - 1",
    ];
    assert_eq!(lines(json), (expected.map(str::to_owned).into(), Some(Currency::USD)));
    let csv = "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id\n\
               1759622400,1759708800,2025-10-05T00:00:00+00:00,2025-10-06T00:00:00+00:00,0.8958740000000000,usd,\"gpt-5, output\",\n\
               1759968000,1760054400,2025-10-09T00:00:00+00:00,2025-10-10T00:00:00+00:00,,,,\n";
    let read = lines(csv);
    assert_eq!(read, (vec!["2025-10-05 gpt-5 output - 0.895874".to_owned()], Some(Currency::USD)));
    assert_eq!(lines(&csv.replace(',', "\t").replace("gpt-5\t", "gpt-5,")), read, "with tabs");
}

#[test]
fn usage_of_openai_has_its_cached_tokens_in_the_input() {
    let json = r#"[{"data": [{"start_time": 1730419200, "end_time": 1730505600, "results": [
        {"object": "organization.usage.completions.result", "input_tokens": 5000, "output_tokens": 1000,
         "input_cached_tokens": 4000, "num_model_requests": 5, "model": "gpt-4o-mini-2024-07-18"}]}], "has_more": true},
        {"data": [], "has_more": false}]"#;
    assert_eq!(lines(json), (vec!["2024-11-01 gpt-4o-mini-2024-07-18 - 6000 -".to_owned()], None));
    let csv =
        "start_time_iso,model,input_tokens,output_tokens,input_cached_tokens\n2025-10-05T00:00:00+00:00,gpt-5,10,5,7\n";
    assert_eq!(lines(csv).0, ["2025-10-05 gpt-5 - 15 -"]);
}

#[test]
fn anthropic_bills_in_cents_and_its_classes_are_disjoint() {
    let costs = r#"{"data": [{"starting_at": "2025-08-01T00:00:00Z", "ending_at": "2025-08-02T00:00:00Z", "results": [
        {"currency": "USD", "amount": "123.78912", "workspace_id": "w", "description": "Claude Sonnet 4 Usage - Input Tokens",
         "cost_type": "tokens", "context_window": "0-200k", "model": "claude-sonnet-4-20250514", "service_tier": "standard",
         "token_type": "uncached_input_tokens"},
        {"currency": "USD", "amount": "50", "description": "Web Search", "cost_type": "web_search", "model": null,
         "token_type": null}]}], "has_more": false, "next_page": null}"#;
    let expected =
        ["2025-08-01 claude-sonnet-4-20250514 uncached_input_tokens - 1.2378912", "2025-08-01 - Web Search - 0.5"];
    assert_eq!(lines(costs), (expected.map(str::to_owned).into(), Some(Currency::USD)));
    let usage = r#"{"data": [{"starting_at": "2025-08-01T00:00:00Z", "ending_at": "2025-08-02T00:00:00Z", "results": [
        {"uncached_input_tokens": 1500, "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
         "cache_read_input_tokens": 200, "output_tokens": 500, "model": "claude-sonnet-4-20250514"}]}], "has_more": false}"#;
    assert_eq!(lines(usage).0, ["2025-08-01 claude-sonnet-4-20250514 - 3700 -"]);
    let csv = "usage_date_utc,model,workspace,token_type,cost_usd\n2025-08-01,Claude Sonnet 4,w,input_no_cache,1.25\n";
    assert_eq!(lines(csv).0, ["2025-08-01 Claude Sonnet 4 input_no_cache - 1.25"]);
}

#[test]
fn any_csv_with_a_cost_or_tokens_will_do() {
    assert_eq!(
        lines("Date;Model;Cost;Currency;Tokens\n2026-10-31;m;1.5;EUR;7\n;;2;;\n").0,
        ["2026-10-31 m - 7 1.5", "- - - - 2"]
    );
}

#[test]
fn what_cannot_be_read_exactly_is_refused_with_its_place() {
    let bucket = |entry: &str| {
        format!(r#"{{"data": [{{"start_time": 0, "end_time": 86400, "results": [{entry}]}}], "has_more": false}}"#)
    };
    for (text, field, says) in [
        (String::new(), "", "empty"),
        ("{}".into(), "", "data"),
        (r#"{"data": [], "has_more": true}"#.into(), "has_more", "more pages"),
        (bucket("{}"), "data[0].results[0]", "neither an amount nor tokens"),
        (bucket(r#"{"amount": {"value": "x", "currency": "usd"}}"#), "data[0].results[0].amount.value", "no amount"),
        (bucket(r#"{"amount": {"value": 1}}"#), "data[0].results[0].amount", "`currency`"),
        (bucket(r#"{"amount": "5", "currency": "dollars"}"#), "data[0].results[0].currency", "no currency code"),
        (
            bucket(r#"{"amount": "5", "currency": "USD"}, {"amount": "5", "currency": "EUR"}"#),
            "data[0].results[1].currency",
            "follows `USD`",
        ),
        (bucket("").replace("86400", "3600"), "data[0]", "no day in UTC"),
        (bucket("").replace("\"start_time\": 0", "\"start_time\": 60"), "data[0]", "no day in UTC"),
        ("a,b\n1,2\n".into(), "", "no column of a cost"),
        ("day,cost\n2026-10-31,1.5.2\n".into(), "line 2, cost", "no amount"),
        ("day,cost\n2026-10-01,1\n31.10.2026,1\n".into(), "line 3, day", "no day like"),
        ("day,tokens\n2026-10-01,1.5\n".into(), "line 2, tokens", "no count"),
        ("day,cost,currency\n2026-10-01,1,USD\n2026-10-01,1,EUR\n".into(), "line 3, currency", "follows"),
        ("day,cost\n2026-10-01,1,2\n".into(), "", "no CSV"),
    ] {
        let error = read_export(&text).expect_err(&text);
        assert_eq!(error.field, field, "{text}: {error}");
        assert!(error.message.contains(says), "{text}: {error}");
    }
}

fn october() -> Month {
    "2026-10".parse().expect("as written here")
}

#[test]
fn an_invoices_lines_add_up_to_its_total() {
    let of = |body: &str| Invoice::from_json("openai", "INV-1", body.as_bytes());
    let shown = |body: &str| {
        let invoice = of(body).unwrap_or_else(|error| panic!("{error}"));
        (invoice.total().to_string(), invoice.lines.iter().map(shown).collect::<Vec<_>>())
    };
    let (total, lines) = shown(r#"{"month": "2026-10", "currency": "USD", "total": "12.5"}"#);
    assert_eq!((total.as_str(), lines), ("12.5 USD", vec!["- - not itemised - 12.5".to_owned()]));
    // Lines of the same day, model and item are one; what they do not explain is a line.
    let body = r#"{"month": "2026-10", "currency": "EUR", "total": "10", "lines": [
        {"day": "2026-10-01", "model": "m", "cost": "3"}, {"day": "2026-10-01", "model": "m", "cost": "4", "tokens": 5},
        {"day": "2026-10-02", "model": "m", "tokens": 7}]}"#;
    let (total, lines) = shown(body);
    assert_eq!(total, "10 EUR");
    assert_eq!(lines, ["2026-10-01 m - 5 7", "2026-10-02 m - 7 -", "- - not itemised - 3"]);
    assert_eq!(shown(&body.replace(r#""total": "10", "#, "")).0, "7 EUR");
    let credit = shown(&body.replace(r#""total": "10""#, r#""total": "-1""#));
    assert_eq!((credit.0.as_str(), credit.1[2].as_str()), ("-1 EUR", "- - not itemised - -8"));
    // What is stored is read as it was.
    let invoice = of(body).expect("as written here");
    assert_eq!(
        serde_json::from_str::<Invoice>(&serde_json::to_string(&invoice).expect("as written here"))
            .expect("as written here"),
        invoice
    );
}

#[test]
fn a_wrong_invoice_is_refused_with_its_field() {
    for (provider, body, field, says) in [
        ("openai", r#"{"month": "2026-10", "currency": "USD"}"#, "total", "neither a `total`"),
        ("openai", r#"{"month": "2026-13", "currency": "USD", "total": "1"}"#, "", "no month like 2026-10"),
        ("openai", r#"{"month": "2026-1", "currency": "USD", "total": "1"}"#, "", "no month"),
        ("openai", r#"{"month": "2026-10", "currency": "USD", "total": 1.5}"#, "", "in quotes"),
        ("openai", r#"{"month": "2026-10", "currency": "USD", "totl": "1"}"#, "", "totl"),
        (" ", r#"{"month": "2026-10", "currency": "USD", "total": "1"}"#, "provider", "1 to 256 bytes"),
        (
            "openai",
            r#"{"month": "2026-10", "currency": "USD", "lines": [{"cost": "1"}, {"day": "2026-11-01", "cost": "1"}]}"#,
            "lines[1].day",
            "not in 2026-10",
        ),
        (
            "openai",
            r#"{"month": "2026-10", "currency": "USD", "lines": [{"model": "", "cost": "1"}]}"#,
            "lines[0].model",
            "1 to 256 bytes",
        ),
    ] {
        let error = Invoice::from_json(provider, "INV-1", body.as_bytes()).expect_err(body);
        assert_eq!(error.field, field, "{body}: {error}");
        assert!(error.message.contains(says), "{body}: {error}");
    }
    let too_many = vec![Line::default(); Invoice::LINES_MAX + 1];
    assert!(Invoice::new("openai", "INV-1", october(), Currency::USD, None, too_many).is_err());
}
