//! The budgets file: what is read, and that what is wrong is refused with its line, column and field.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use usage_types::{
    AlertRule, Amount, Budget, BudgetError, BudgetSet, Currency, Dimension, DimensionSet, Every, Limit, Measure, Mode,
    Ppm, Scope, TokenClass, WindowSpec,
};

const CONTRACT: &str = r#"budgets:
  - id: support-daily
    match: { namespace: support }        # empty: everything
    per: []                              # [user]: one balance for each user that matches
    window: { every: day, zone: Europe/Berlin }
    limit: { tokens: 1000000 }           # or cost: "500.00 USD"
    mode: hard                           # soft, shadow
    alerts: { at: [0.8, 1.0], to: [support-leads@example.com] }
"#;

fn one(text: &str) -> Budget {
    let set = BudgetSet::from_yaml(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(set.budgets.len(), 1, "{text}");
    set.budgets.values().next().unwrap().as_ref().clone()
}

/// A budget with one more line, which is line 5 of the file.
fn with(line: &str) -> String {
    format!("budgets:\n  - id: b\n    window: {{ every: hour }}\n    limit: {{ requests: 5 }}\n    {line}\n")
}

/// A budget with this limit, in line 4.
fn limited(limit: &str) -> String {
    format!("budgets:\n  - id: b\n    window: {{ every: month }}\n    limit: {limit}\n")
}

fn check(text: &str, line: usize, column: usize, field: &str, message: &str) {
    let shown: String = text.chars().take(500).collect();
    let error: BudgetError = BudgetSet::from_yaml(text).expect_err("refused");
    assert_eq!((error.line, error.column, error.field.as_str()), (line, column, field), "{error}\n{shown}");
    assert!(error.message.contains(message), "{error}\nlacks {message:?} in\n{shown}");
}

#[test]
fn the_contracts_example_is_read() {
    let expected = Budget {
        id: "support-daily".into(),
        matches: Scope::new([(Dimension::Namespace, "support")]),
        per: DimensionSet::default(),
        window: WindowSpec { every: Every::Day, zone: chrono_tz::Europe::Berlin },
        limits: Limit { measure: Measure::Tokens, amount: Amount(1_000_000) }.into(),
        mode: Mode::Hard,
        alerts: AlertRule { at: vec![Ppm(800_000), Ppm::ONE], to: vec!["support-leads@example.com".into()] },
        http_status: 403,
    };
    assert_eq!(one(CONTRACT), expected);
}

#[test]
fn what_is_left_out_has_its_default() {
    let budget = one("budgets:\n- id: all\n  window: {every: hour}\n  limit: {requests: 5}\n");
    assert_eq!((budget.matches.is_empty(), budget.per.is_empty(), budget.mode), (true, true, Mode::Hard));
    assert_eq!((budget.window.zone, budget.http_status), (chrono_tz::UTC, 429));
    assert_eq!(budget.alerts, AlertRule::default());
    let budget = one(&with("alerts: { to: [a@b.c] }"));
    assert_eq!((budget.alerts.at, budget.alerts.to), (vec![Ppm(800_000), Ppm::ONE], vec!["a@b.c".to_owned()]));
    assert_eq!(one(&with("alerts: { at: [] }")).alerts.at, []);
    assert_eq!(one(&with("http_status: 403")).http_status, 403);
    assert_eq!(one(&with("mode: soft")).mode, Mode::Soft);
    assert_eq!(one(&with("per: [user, namespace]")).per, DimensionSet::of(&[Dimension::Namespace, Dimension::User]));
}

#[test]
fn a_file_without_budgets_is_an_empty_set() {
    for text in ["", "\n# nothing yet\n", "---\n", "budgets:\n", "budgets: []\n", "{}", "budgets: ~"] {
        assert_eq!(BudgetSet::from_yaml(text), Ok(BudgetSet::default()), "{text:?}");
    }
}

#[test]
fn every_measure_is_read_in_its_smallest_unit() {
    let usd = Measure::Cost(Currency::USD);
    for (limit, measure, amount) in [
        ("{ tokens: 1000000 }", Measure::Tokens, 1_000_000),
        ("{ tokens: \"1000000\" }", Measure::Tokens, 1_000_000),
        ("{ output: 7 }", Measure::TokensOf(TokenClass::Output), 7),
        ("{ cache_write_1h_tokens: 7 }", Measure::TokensOf(TokenClass::CacheWrite1h), 7),
        ("{ requests: 1 }", Measure::Requests, 1),
        ("{ tool_calls: 1000000000000000000 }", Measure::ToolCalls, 1_000_000_000_000_000_000),
        ("{ images: 12 }", Measure::Images, 12),
        ("{ compute_hours: 1.5 }", Measure::Compute, 5_400_000_000_000),
        ("{ compute_hours: 0.1 }", Measure::Compute, 360_000_000_000),
        ("{ compute_hours: 5000000 }", Measure::Compute, 18_000_000_000_000_000_000),
        ("{ compute_seconds: \"0.000000001\" }", Measure::Compute, 1),
        ("{ cost: \"500.00 USD\" }", usd, 500_000_000_000_000),
        ("{ cost: 0.000000000001 USD }", usd, 1),
    ] {
        assert_eq!(one(&limited(limit)).limits, Limit { measure, amount: Amount(amount) }.into(), "{limit}");
    }
}

#[test]
fn several_limits_are_a_list_of_different_measures() {
    let limits = |list: &str| format!("budgets:\n  - id: b\n    window: {{ every: day }}\n    limits: {list}\n");
    let budget = one(&limits("[{ tokens: 5 }, { output: 3 }, { cost: 5 USD }, { cost: 4 EUR }]"));
    let read: Vec<String> =
        budget.limits.iter().map(|limit| format!("{} {}", limit.measure.name(), limit.amount)).collect();
    assert_eq!(read, ["tokens 5", "output_tokens 3", "cost 5000000000000", "cost 4000000000000"]);
    check(&limits("[]"), 4, 13, "budgets[0].limits", "`limits` is empty");
    check(&limits("{ tokens: 5 }"), 4, 13, "budgets[0].limits", "no list");
    check(
        &limits("[{ tokens: 5 }, { requests: 1, tokens: 2 }]"),
        4,
        52,
        "budgets[0].limits[1].tokens",
        "second measure",
    );
    check(
        &limits("[{ output: 5 }, { output_tokens: 5 }]"),
        4,
        29,
        "budgets[0].limits[1]",
        "`output_tokens` is limited twice",
    );
    check(
        &limits("[{ cost: 5 USD }, { cost: 6 USD }]"),
        4,
        31,
        "budgets[0].limits[1]",
        "`cost` in USD is limited twice",
    );
    let both = limits("[{ tokens: 5 }]") + "    limit: { requests: 5 }\n";
    check(&both, 5, 12, "budgets[0].limit", "`limit` and `limits` are both there");
    let many: Vec<String> = ('A'..='Q').map(|letter| format!("{{ cost: 1 AA{letter} }}")).collect();
    check(&limits(&format!("[{}]", many.join(", "))), 4, 286, "budgets[0].limits[16]", "more than 16");
}

#[test]
fn thresholds_are_exact_sorted_and_each_there_once() {
    let at = |list: &str| one(&with(&format!("alerts: {{ at: {list} }}"))).alerts.at;
    assert_eq!(at("[1.0, 0.8, 0.80, \"0.1\"]"), [Ppm(100_000), Ppm(800_000), Ppm(1_000_000)]);
    // 0.29 and 1.1 times a million are no whole numbers as floats.
    assert_eq!(at("[0.29, 1.1, 0.000001, 10]"), [Ppm(1), Ppm(290_000), Ppm(1_100_000), Ppm(10_000_000)]);
}

#[test]
fn an_anchor_is_shared_by_its_aliases() {
    let text = "budgets:\n- id: a\n  window: &w { every: day, zone: Asia/Tokyo }\n  limit: &l { tokens: 5 }\n- id: b\n  window: *w\n  limit: *l\n";
    let set = BudgetSet::from_yaml(text).unwrap();
    assert_eq!(set.budgets["a"].window, set.budgets["b"].window);
    assert_eq!(set.budgets["b"].window.zone, chrono_tz::Asia::Tokyo);
}

#[test]
fn a_file_that_is_no_yaml_is_refused_at_the_place() {
    check("budgets:\n  - id: [a\n", 2, 9, "", "not YAML: unclosed bracket");
    check("budgets:\n  - id: a\n   window: x\n", 3, 4, "", "not YAML");
    check("budgets:\n\t- id: a\n", 2, 2, "", "not YAML: tabs");
    check("budgets: *nowhere\n", 1, 10, "", "not YAML");
    check("budgets: !custom []\n", 1, 18, "", "tag");
    check("budgets: []\n---\nbudgets: []\n", 2, 1, "", "second document");
    check("budgets: &a [*a]\n", 1, 14, "", "never ends");
    check(&" ".repeat(1024 * 1024 + 1), 0, 0, "", "1048576");
}

#[test]
fn nesting_and_alias_bombs_are_refused_early() {
    check(&format!("budgets: {}", "[".repeat(5000)), 1, 265, "", "not YAML");
    check(&format!("budgets: {}{}", "[".repeat(40), "]".repeat(40)), 1, 17, "", "levels deep");
    // Each level is one alias deeper than the one before: shared, it costs little to read, and would cost the stack to leave.
    let mut chain = "budgets:\n- &a0 [x]\n".to_owned();
    (1..20_000).for_each(|at| chain.push_str(&format!("- &a{at} [*a{}]\n", at - 1)));
    check(&chain, 34, 8, "", "levels deep");
    // A billion laughs: nine aliases a level.
    let mut laughs = "budgets:\n- &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    (1..20).for_each(|at| laughs.push_str(&format!("- &a{at} [{}]\n", format!("*a{},", at - 1).repeat(9))));
    check(&laughs, 2, 7, "budgets[0]", "no mapping");
}

#[test]
fn the_shape_of_the_file_is_checked() {
    check("- id: a\n", 1, 1, "", "no mapping");
    check("budgets: 5\n", 1, 10, "budgets", "no list");
    check("budgts: []\n", 1, 1, "budgts", "did you mean `budgets`?");
    check("budgets: [a]\n", 1, 11, "budgets[0]", "no mapping");
    check("budgets:\n  - id: a\n  - {}\n", 2, 5, "budgets[0].window", "`window` is missing");
    check("budgets:\n  - window: { every: day }\n    limit: { tokens: 5 }\n", 2, 5, "budgets[0].id", "`id` is missing");
    check("budgets:\n  - id: a\n    window: { every: day }\n", 2, 5, "budgets[0].limit", "`limit` is missing");
    check(&with("modus: hard"), 5, 5, "budgets[0].modus", "did you mean `mode`?");
    check(&with("colour: red"), 5, 5, "budgets[0].colour", "use one of id, match");
    check(&with("limit: { tokens: 5 }"), 5, 5, "budgets[0].limit", "given twice");
    check(&with("<<: { mode: soft }"), 5, 5, "budgets[0].<<", "unknown field");
    check(&with("[a]: b"), 5, 5, "budgets[0]", "plain name");
}

#[test]
fn a_bad_or_repeated_id_is_refused() {
    let text = "budgets:\n  - id: a\n    window: { every: day }\n    limit: { tokens: 5 }\n  - id: a\n    window: { every: day }\n    limit: { tokens: 5 }\n";
    check(text, 5, 9, "budgets[1].id", "already used in line 2");
    let id = |id: &str| format!("budgets:\n  - id: {id}\n    window: {{ every: day }}\n    limit: {{ tokens: 5 }}\n");
    check(&id("a|b"), 2, 9, "budgets[0].id", "no id");
    check(&id("\"\""), 2, 9, "budgets[0].id", "no id");
    check(&id("größe"), 2, 9, "budgets[0].id", "no id");
    check(&id(&"i".repeat(129)), 2, 9, "budgets[0].id", "at most 128");
    check(&id("[a]"), 2, 9, "budgets[0].id", "a list stands here");
    assert_eq!(one(&id("007")).id.as_ref(), "007");
}

#[test]
fn a_bad_match_or_per_is_refused() {
    check(&with("match: { namspace: x }"), 5, 14, "budgets[0].match.namspace", "did you mean `namespace`?");
    check(&with("match: { user: [a, b] }"), 5, 20, "budgets[0].match.user", "for several write a budget for each");
    check(&with("match: { user: }"), 5, 18, "budgets[0].match.user", "nothing is written");
    check(&with("match: { user: \"\" }"), 5, 20, "budgets[0].match.user", "no event has this value");
    check(&with("match: { user: \"a\\nb\" }"), 5, 20, "budgets[0].match.user", "no event has this value");
    check(&with("match: support"), 5, 12, "budgets[0].match", "no mapping");
    check(&with("per: user"), 5, 10, "budgets[0].per", "no list");
    check(&with("per: [user, usr]"), 5, 17, "budgets[0].per[1]", "did you mean `user`?");
    check(&with("per: [user, user]"), 5, 17, "budgets[0].per[1]", "twice");
    let both = "budgets:\n  - id: b\n    match: { user: x }\n    per: [team, user]\n    window: { every: day }\n    limit: { tokens: 5 }\n";
    check(both, 4, 17, "budgets[0].per[1]", "fixed by `match` already");
}

#[test]
fn a_bad_window_is_refused() {
    let window = |window: &str| format!("budgets:\n  - id: b\n    window: {window}\n    limit: {{ tokens: 5 }}\n");
    check(&window("{ every: fortnight }"), 3, 22, "budgets[0].window.every", "use one of minute, hour");
    check(&window("{ zone: UTC }"), 3, 13, "budgets[0].window.every", "`every` is missing");
    check(&window("day"), 3, 13, "budgets[0].window", "no mapping");
    check(
        &window("{ every: day, zone: Europe/Berln }"),
        3,
        33,
        "budgets[0].window.zone",
        "did you mean Europe/Berlin?",
    );
    check(&window("{ every: day, zone: \"+02:00\" }"), 3, 33, "budgets[0].window.zone", "no IANA time zone");
    check(&window("{ every: day, tz: UTC }"), 3, 27, "budgets[0].window.tz", "unknown field");
}

#[test]
fn a_bad_limit_is_refused() {
    let check = |limit: &str, column, field: &str, message| {
        check(&limited(limit), 4, column, &format!("budgets[0].limit{field}"), message);
    };
    check("{ tokens: 0 }", 22, ".tokens", "more than zero");
    check("{ tokens: -5 }", 22, ".tokens", "more than zero");
    check("{ tokens: 1_000 }", 22, ".tokens", "digits only");
    check("{ tokens: 1e6 }", 22, ".tokens", "digits only");
    check("{ tokens: 1000.0 }", 22, ".tokens", "digits only");
    check("{ tokens: }", 20, ".tokens", "nothing is written");
    check("{ tokens: 1000000000000000001 }", 22, ".tokens", "a digit too many");
    check(&format!("{{ tokens: {} }}", "9".repeat(60)), 22, ".tokens", "a digit too many");
    check("{}", 12, "", "no measure");
    check("{ tokens: 5, cost: \"5 USD\" }", 31, ".cost", "`limits: [{ tokens: 1000000 }, { requests: 500 }]`");
    check("{ token: 5 }", 14, ".token", "did you mean `tokens`?");
    check("{ cost: 500 }", 20, ".cost", "500.00 USD");
    check("{ cost: \"0 USD\" }", 20, ".cost", "more than zero");
    check("{ cost: \"5 usd\" }", 20, ".cost", "capital letters");
    check("{ cost: \"1000000000000001 USD\" }", 20, ".cost", "a digit too many");
    check("{ compute_hours: 5000001 }", 29, ".compute_hours", "a digit too many");
    check("{ compute_hours: 0.000000000001 }", 29, ".compute_hours", "finer than a nanosecond");
    check("{ compute_seconds: -1 }", 31, ".compute_seconds", "more than zero");
    check("{ compute_seconds: soon }", 31, ".compute_seconds", "no decimal number");
}

#[test]
fn a_bad_mode_alert_or_status_is_refused() {
    check(&with("mode: shadow"), 5, 11, "budgets[0].mode", "not available yet");
    check(&with("mode: Hard"), 5, 11, "budgets[0].mode", "use hard or soft");
    check(&with("http_status: 503"), 5, 18, "budgets[0].http_status", "use 403 or 429");
    let at = |value: &str, message| {
        check(&with(&format!("alerts: {{ at: [0.5, {value}] }}")), 5, 25, "budgets[0].alerts.at[1]", message);
    };
    at("0", "not above 0");
    at("-0.5", "not above 0");
    at("10.000001", "up to 10");
    at("0.1234567", "more than six digits");
    at("80%", "write 0.8 for 80 %");
    at("8e-1", "write 0.8 for 80 %");
    check(&with("alerts: { at: 0.8 }"), 5, 19, "budgets[0].alerts.at", "no list");
    let many = vec!["0.5"; 21].join(",");
    check(&with(&format!("alerts: {{ at: [{many}] }}")), 5, 100, "budgets[0].alerts.at[20]", "more than 20");
    for address in [
        "nobody",
        "'@x.org'",
        "a@",
        "a@b@c",
        "'a b@c.d'",
        "'a@b\t.c'",
        "\"a@b.c\\r\\nBcc: d@e.f\"",
        "'A <a@b.c>'",
        "a@.c",
    ] {
        let text = with(&format!("alerts: {{ to: [ok@example.com, {address}] }}"));
        check(&text, 5, 36, "budgets[0].alerts.to[1]", "no mail address");
    }
}

#[test]
fn the_error_names_the_place_for_people() {
    let error = BudgetSet::from_yaml(&with("mode: shadow")).unwrap_err();
    assert!(error.to_string().starts_with("line 5, column 11, field budgets[0].mode: the mode `shadow`"), "{error}");
}
