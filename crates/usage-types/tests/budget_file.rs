//! The budgets file: what is read, and that what is wrong is refused with its line, column and field.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use usage_types::{
    AlertRule, Amount, Budget, BudgetError, BudgetSet, Currency, Dimension, DimensionSet, Every, Limit, Measure, Mode,
    Ppm, Predict, PressureStep, Priority, Rate, Rollback, Scope, Span, SpecialLimits, Surge, TimeUs, TokenClass, Trip,
    WindowSpec,
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
        window: WindowSpec::calendar(Every::Day, chrono_tz::Europe::Berlin),
        limits: Limit::new(Measure::Tokens, Amount(1_000_000)).into(),
        special: SpecialLimits::default(),
        overcommit: false,
        mode: Mode::Hard,
        rollback: None,
        predict: None,
        priority: Priority::Normal,
        pressure: None,
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
    assert_eq!(one(&with("mode: shadow")).mode, Mode::Shadow);
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
        assert_eq!(one(&limited(limit)).limits, Limit::new(measure, Amount(amount)).into(), "{limit}");
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

/// A budget for each user of each team over a month, with more lines: the first is line 6 of the file.
fn split(more: &str) -> String {
    format!(
        "budgets:\n  - id: b\n    per: [team, user]\n    window: {{ every: month }}\n    limit: {{ tokens: 100 }}\n{more}"
    )
}

#[test]
fn overrides_go_before_plans_and_plans_before_the_budgets_own_limit() {
    let budget = one(&split(
        r#"    overrides:
      - { match: { user: u-7 }, limit: { tokens: 500 } }
      - { match: { team: core, user: u-8 }, limits: [{ tokens: 600 }, { requests: 6 }] }
    plans:
      by: team
      trial: { of: [new, "2026"], limit: { tokens: 10 } }
      core: { limit: { tokens: 200 } }
"#,
    ));
    let of = |team: &str, user: &str| {
        let scope = Scope::new([(Dimension::Team, team), (Dimension::User, user)]);
        budget.limits_of(|dim| scope.get(dim)).iter().map(|limit| limit.amount.0).collect::<Vec<_>>()
    };
    assert_eq!([of("new", "u-7"), of("core", "u-8"), of("core", "u-9")], [vec![500], vec![600, 6], vec![200]]);
    assert_eq!([of("2026", "u-8"), of("trial", "u-8"), of("other", "u-8")], [vec![10], vec![100], vec![100]]);
}

#[test]
fn a_bad_override_or_plan_is_refused() {
    let overrides = |list: &str| split(&format!("    overrides: {list}\n"));
    check(&overrides("5"), 6, 16, "budgets[0].overrides", "no list");
    check(&overrides("[{ limit: { tokens: 5 } }]"), 6, 17, "budgets[0].overrides[0].match", "`match` is missing");
    check(&overrides("[{ match: { user: a } }]"), 6, 17, "budgets[0].overrides[0].limit", "`limit` is missing");
    check(
        &overrides("[{ match: {}, limit: { tokens: 5 } }]"),
        6,
        26,
        "budgets[0].overrides[0].match",
        "would be for all",
    );
    check(
        &overrides("[{ match: { job: a }, limit: { tokens: 5 } }]"),
        6,
        33,
        "budgets[0].overrides[0].match.job",
        "add it to `per`",
    );
    check(
        &overrides("[{ match: { usr: a }, limit: { tokens: 5 } }]"),
        6,
        28,
        "budgets[0].overrides[0].match.usr",
        "did you mean `user`?",
    );
    let twice = "[{ match: { user: a }, limit: { tokens: 5 } }, { match: { user: a }, limit: { tokens: 6 } }]";
    check(&overrides(twice), 6, 63, "budgets[0].overrides[1]", "an override in line 6 already");
    let fixed = "budgets:\n  - id: b\n    match: { user: a }\n    window: { every: day }\n    limit: { tokens: 5 }\n    overrides: [{ match: { user: a }, limit: { tokens: 5 } }]\n";
    check(fixed, 6, 34, "budgets[0].overrides[0].match.user", "fixed by `match`");

    let plans = |plans: &str| split(&format!("    plans: {plans}\n"));
    check(&plans("{ free: { limit: { tokens: 5 } } }"), 6, 12, "budgets[0].plans.by", "`by` is missing");
    check(&plans("{ by: job, free: { limit: { tokens: 5 } } }"), 6, 18, "budgets[0].plans.by", "add it to `per`");
    check(
        &plans("{ by: team, free: { tokens: 5 } }"),
        6,
        32,
        "budgets[0].plans.free.tokens",
        "use one of of, limit, limits",
    );
    check(&plans("{ by: team, free: { of: [a] } }"), 6, 30, "budgets[0].plans.free.limit", "`limit` is missing");
    let two = "{ by: team, free: { of: [a], limit: { tokens: 5 } }, paid: { of: [b, a], limit: { tokens: 6 } } }";
    check(&plans(two), 6, 81, "budgets[0].plans.paid.of[1]", "has the plan `free` already");
}

/// An hourly cap of a team of `acme`.
fn team(id: &str, tokens: u64, more: &str) -> String {
    format!(
        "  - {{ id: {id}, match: {{ namespace: acme, team: {id} }}, window: {{ every: hour }}, limit: {{ tokens: {tokens} }}{more} }}\n"
    )
}

#[test]
fn budgets_below_another_may_not_promise_more_than_it_has_unless_they_say_so() {
    let acme =
        "budgets:\n  - { id: acme, match: { namespace: acme }, window: { every: hour }, limit: { tokens: 100 } }\n";
    let file = |teams: &[String]| format!("{acme}{}", teams.concat());
    let refused = |teams: &[String], line, field: &str, message: &str| {
        let error = BudgetSet::from_yaml(&file(teams)).expect_err("refused");
        assert_eq!((error.line, error.field.as_str()), (line, field), "{error}");
        assert!(error.message.contains(message), "{error}");
    };
    let taken = |teams: &[String]| {
        assert_eq!(BudgetSet::from_yaml(&file(teams)).map(|set| set.budgets.len()), Ok(1 + teams.len()))
    };
    let message = "`a` promises 101 tokens, and `acme` above it has 100";
    refused(&[team("a", 101, "")], 3, "budgets[1].limit", message);
    taken(&[team("a", 100, "")]);
    taken(&[team("a", 101, ", overcommit: true")]);
    refused(&[team("a", 101, ", overcommit: false")], 3, "budgets[1].limit", message);
    // In sum.
    let sum = "`b` promises 110 tokens with the others like it";
    refused(&[team("a", 60, ""), team("b", 50, "")], 4, "budgets[2].limit", sum);
    taken(&[team("a", 60, ""), team("b", 40, "")]);
    taken(&[team("a", 60, ""), team("b", 50, ", overcommit: true")]);
    // Soft ones, other measures and other windows promise nothing here.
    taken(&[team("a", 101, ", mode: soft")]);
    taken(&[
        "  - { id: a, match: { namespace: acme }, per: [team], window: { every: hour }, limit: { requests: 500 } }\n"
            .to_owned(),
    ]);
    taken(&[
        "  - { id: a, match: { namespace: acme }, per: [team], window: { every: day }, limit: { tokens: 500 } }\n"
            .to_owned(),
    ]);
    // Each of many, whose number is not known; and those of them that the file names.
    let each = |tokens: u64, more: &str| {
        format!(
            "  - {{ id: each, per: [namespace, user], window: {{ every: hour }}, limit: {{ tokens: {tokens} }}{more} }}\n"
        )
    };
    taken(&[each(101, "")]);
    let users = |tokens: u64, more: &str| {
        each(tokens, more).replace("per: [namespace, user]", "match: { namespace: acme }, per: [user]")
    };
    refused(&[users(101, "")], 3, "budgets[1].limit", "`each` promises 101 tokens");
    let overrides =
        ", overrides: [{ match: { user: a }, limit: { tokens: 60 } }, { match: { user: b }, limit: { tokens: 41 } }]";
    refused(&[users(1, overrides)], 3, "budgets[1].overrides[1]", "`each` promises 101 tokens with the others like it");
    taken(&[users(1, &overrides.replace("41", "40"))]);
    let plans = ", plans: { by: user, big: { of: [a, b], limit: { tokens: 51 } } }";
    refused(&[users(1, plans)], 3, "budgets[1].plans.big", "promises 102 tokens");
}

#[test]
fn what_is_promised_is_held_against_the_parents_own_overrides() {
    let file = |tokens: u64| {
        format!(
            "budgets:\n  - {{ id: each, per: [namespace], window: {{ every: hour }}, limit: {{ tokens: 10 }}, overrides: [{{ match: {{ namespace: acme }}, limit: {{ tokens: 100 }} }}] }}\n{}",
            team("a", tokens, "")
        )
    };
    assert!(BudgetSet::from_yaml(&file(100)).is_ok());
    check(&file(101), 3, 83, "budgets[1].limit", "`each` above it has 100");
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
fn a_window_may_begin_on_a_day_and_at_a_time_of_its_own() {
    let of = |window: &str| {
        one(&format!("budgets:\n  - id: b\n    window: {window}\n    limit: {{ tokens: 5 }}\n")).window.id_name()
    };
    for (window, name) in [
        ("{ every: month, anchor: 31 }", "month@31"),
        ("{ every: month, anchor: 1 }", "month"),
        ("{ every: week, anchor: Sunday }", "week@sunday"),
        ("{ every: week, anchor: monday, at: \"00:00\" }", "week"),
        ("{ every: quarter, anchor: 02-15 }", "quarter@02-15"),
        ("{ every: quarter, anchor: 11-15 }", "quarter@02-15"),
        ("{ every: year, anchor: 02-29, at: 06:30 }", "year@02-29T06:30"),
        ("{ every: day, at: \"23:59\", zone: Asia/Tokyo }", "day@23:59"),
    ] {
        assert_eq!(of(window), name, "{window}");
    }
}

#[test]
fn a_window_may_roll_or_last_as_long_as_a_session() {
    let of = |window: &str| {
        let text =
            format!("budgets:\n  - id: b\n    per: [session]\n    window: {window}\n    limit: {{ tokens: 5 }}\n");
        let budget = one(&text);
        (budget.window.to_string(), budget.http_status)
    };
    for (window, name, status) in [
        ("{ rolling: 90 minutes }", "rolling 90 minutes", 403),
        ("{ rolling: 60m, zone: Asia/Tokyo }", "rolling 1 hour", 429),
        ("{ rolling: 1 day }", "rolling 24 hours", 403),
        ("{ rolling: 366days }", "rolling 366 days", 403),
        ("{ lifetime: session, idle: 24h }", "lifetime of a session, idle 24 hours", 403),
    ] {
        assert_eq!(of(window), (name.to_owned(), status), "{window}");
    }
}

#[test]
fn a_bad_rolling_window_or_lifetime_is_refused() {
    let bad = |window: &str, column, name: &str, message| {
        let text = format!("budgets:\n  - id: b\n    per: [task]\n    window: {window}\n    limit: {{ tokens: 5 }}\n");
        check(&text, 4, column, &format!("budgets[0].window{name}"), message);
    };
    bad("{ rolling: fortnight }", 24, ".rolling", "like 90 minutes");
    bad("{ rolling: 90 }", 24, ".rolling", "like 90 minutes");
    bad("{ rolling: 90 seconds }", 24, ".rolling", "minutes, hours or days");
    bad("{ rolling: 1.5 hours }", 24, ".rolling", "no length of time");
    bad("{ rolling: 0 minutes }", 24, ".rolling", "between 1 minute and 366 days");
    bad("{ rolling: 367 days }", 24, ".rolling", "between 1 minute and 366 days");
    bad("{ rolling: 99999999999 days }", 24, ".rolling", "between 1 minute and 366 days");
    bad("{ every: day, rolling: 1 hour }", 36, ".rolling", "`every` and `rolling` are both there");
    bad("{ rolling: 1 hour, at: 06:00 }", 36, ".at", "only windows with `every`");
    bad("{ rolling: 1 hour, idle: 1 hour }", 38, ".idle", "only windows with `lifetime`");
    bad("{ lifetime: task }", 13, ".idle", "`idle` is missing");
    bad("{ lifetime: task, idle: 8 days }", 37, ".idle", "between 1 minute and 7 days");
    bad("{ lifetime: user, idle: 1 day }", 25, ".lifetime", "use session, task or job");
    bad("{ lifetime: session, idle: 1 day }", 25, ".lifetime", "add it to `per`");
}

#[test]
fn a_bad_anchor_is_refused() {
    let bad = |window: &str, column, name: &str, message| {
        let text = format!("budgets:\n  - id: b\n    window: {window}\n    limit: {{ tokens: 5 }}\n");
        check(&text, 3, column, &format!("budgets[0].window.{name}"), message);
    };
    bad("{ every: month, anchor: 32 }", 37, "anchor", "write 1 to 31");
    bad("{ every: month, anchor: 0 }", 37, "anchor", "write 1 to 31");
    bad("{ every: month, anchor: last }", 37, "anchor", "31 is the last day");
    bad("{ every: month, anchor: [1, 15] }", 37, "anchor", "a list stands here");
    bad("{ every: week, anchor: 1 }", 36, "anchor", "use one of monday");
    bad("{ every: year, anchor: 04-31 }", 36, "anchor", "no date of a year");
    bad("{ every: year, anchor: 13-01 }", 36, "anchor", "no date of a year");
    bad("{ every: year, anchor: 6 }", 36, "anchor", "like 04-06");
    bad("{ every: quarter, anchor: 15 }", 39, "anchor", "like 04-06");
    bad("{ every: day, anchor: 5 }", 35, "anchor", "write `at: \"06:00\"`");
    bad("{ every: hour, anchor: 5 }", 36, "anchor", "take `anchor` out");
    bad("{ every: minute, at: 06:00 }", 34, "at", "take `at` out");
    bad("{ every: day, at: 24:00 }", 31, "at", "no time of day");
    bad("{ every: day, at: 6:00 }", 31, "at", "no time of day");
    bad("{ every: day, at: 06.00 }", 31, "at", "no time of day");
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
    check(&with("mode: Hard"), 5, 11, "budgets[0].mode", "did you mean `hard`?");
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
fn a_canary_and_a_rollback_are_shares_of_scopes() {
    let read = |text: &str| {
        let budget = one(&with(&format!("per: [user]\n    {text}")));
        (budget.mode, budget.rollback)
    };
    let over = |ppm, at_least| Some(Rollback { blocked_over: Ppm(ppm), at_least });
    assert_eq!(read("mode: canary\n    canary: 10%"), (Mode::Canary(Ppm(100_000)), None));
    assert_eq!(read("mode: canary\n    canary: \"0.1234 %\""), (Mode::Canary(Ppm(1_234)), None));
    assert_eq!(read("mode: canary\n    canary: 1.0"), (Mode::Canary(Ppm::ONE), None));
    assert_eq!(read("rollback: { blocked_over: 0.2 }"), (Mode::Hard, over(200_000, Rollback::AT_LEAST)));
    let both = "mode: canary\n    canary: 5%\n    rollback: { blocked_over: 25%, at_least: 3 }";
    assert_eq!(read(both), (Mode::Canary(Ppm(50_000)), over(250_000, 3)));
}

#[test]
fn a_prediction_says_how_long_before_and_by_which_burn() {
    let read = |text: &str| one(&with(text)).predict.unwrap();
    let hour = 60 * TimeUs::MINUTE;
    let short = read("predict: { warn: 30m }");
    assert_eq!((short.warn_us, short.slow_us), (Some(hour / 2), None));
    assert_eq!((short.over, short.floor), (Predict::OVER, Predict::FLOOR));
    let all = read("predict: { warn: 2 hours, slow: 600s, over: 10 minutes, floor: { requests: 6, within: 1h } }");
    assert_eq!((all.warn_us, all.slow_us, all.over), (Some(2 * hour), Some(hour / 6), Span::minutes(10)));
    assert_eq!(all.floor, Rate { requests: 6, per_s: 3_600 });
    let preset = "presets: { watched: { predict: { slow: 5m } } }\nbudgets:\n  - { id: b, preset: watched, window: { every: day }, limit: { tokens: 5 } }\n";
    assert_eq!(one(preset).predict.unwrap().slow_us, Some(5 * TimeUs::MINUTE));
}

#[test]
fn a_bad_prediction_is_refused() {
    let refused = check;
    let check = |text: &str, column: usize, field: &str, message| {
        check(&with(text), 5, column, &format!("budgets[0].predict{field}"), message);
    };
    check("predict: {}", 14, "", "`warn: 30m`, `slow: 10m` or both");
    check("predict: { warn: 5m, slow: 10m }", 32, ".slow", "nobody would be warned before");
    check("predict: { warn: 30s }", 22, ".warn", "is not from 60s");
    check("predict: { warn: 5m, over: 90s }", 32, ".over", "whole minutes");
    check("predict: { warn: 5m, floor: { requests: 1 } }", 33, ".floor.within", "`within` is missing");
    check("predict: { warm: 5m }", 16, ".warm", "did you mean `warn`?");
    let rolling =
        "budgets:\n  - id: b\n    window: { rolling: 1h }\n    limit: { tokens: 5 }\n    predict: { warn: 5m }\n";
    refused(rolling, 5, 14, "budgets[0].predict", "as much leaves a window that moves as comes");
}

#[test]
fn a_priority_is_normal_where_nothing_is_said_and_a_pressure_has_a_step_for_each() {
    assert_eq!(
        (one(&with("mode: hard")).priority, one(&with("priority: low")).priority),
        (Priority::Normal, Priority::Low)
    );
    let text =
        "pressure: { low: { at: 80%, requests: 10, within: 1m }, normal: { at: 0.95, requests: 6, within: 1h } }";
    let pressure = one(&with(text)).pressure.unwrap();
    let step = |at, requests, per_s| Some(PressureStep { at: Ppm(at), rate: Rate { requests, per_s } });
    assert_eq!((pressure.low, pressure.normal), (step(800_000, 10, 60), step(950_000, 6, 3_600)));
    assert_eq!((pressure.step(Priority::Low), pressure.step(Priority::High)), (pressure.low, None));
}

#[test]
fn a_bad_priority_or_pressure_is_refused() {
    let refused = check;
    let check = |text: &str, column: usize, field: &str, message| {
        check(&with(text), 5, column, &format!("budgets[0].{field}"), message);
    };
    check("priority: lo", 15, "priority", "did you mean `low`?");
    check("pressure: {}", 15, "pressure", "say who is slowed");
    check("pressure: { low: { requests: 1, within: 1m } }", 22, "pressure.low.at", "`at` is missing");
    check("pressure: { hihg: {} }", 17, "pressure.hihg", "unknown field");
    let steps = "pressure: { low: { at: 90%, requests: 1, within: 1m }, normal: { at: 80%, requests: 1, within: 1m } }";
    check(steps, 68, "pressure.normal", "`low` is slowed first");
    let rolling = "budgets:\n  - id: b\n    window: { rolling: 1h }\n    limit: { tokens: 5 }\n    pressure: { low: { at: 80%, requests: 1, within: 1m } }\n";
    refused(rolling, 5, 15, "budgets[0].pressure", "does not fill up to an end");
}

#[test]
fn a_bad_canary_or_rollback_is_refused() {
    let check = |text: &str, place: (usize, usize), field: &str, message| {
        check(&with(&format!("per: [user]\n    {text}")), place.0, place.1, &format!("budgets[0].{field}"), message);
    };
    check("mode: canari", (6, 11), "mode", "did you mean `canary`?");
    check("canary: 10%", (6, 13), "canary", "write `mode: canary`");
    check("rollback: {}", (6, 15), "rollback.blocked_over", "`blocked_over` is missing");
    check("rollback: { blocked_over: 100% }", (6, 31), "rollback.blocked_over", "less than 100%");
    check("rollback: { blocked_over: 1%, at_least: 0 }", (6, 45), "rollback.at_least", "from 1 to");
    check("rollback: { over: 1% }", (6, 17), "rollback.over", "unknown field");
    check("mode: soft\n    rollback: { blocked_over: 1% }", (7, 15), "rollback", "in mode `soft` nobody is blocked");
    for share in ["0", "0%", "100.1%", "-5%", "1.01", "many", "1e-1"] {
        check(&format!("mode: canary\n    canary: {share}"), (7, 13), "canary", "is no share");
    }
    check("mode: canary\n    canary: 0.00001%", (7, 13), "canary", "finer than a millionth");
}

#[test]
fn an_overage_is_a_share_of_each_limit_or_an_amount() {
    let blocks_at = |more: &str| -> Vec<i128> {
        let text = format!(
            "budgets: [{{ id: b, per: [user], window: {{ every: day }}, limits: [{{ tokens: 999 }}, {{ cost: 5 USD }}], {more} }}]"
        );
        let budget = one(&text);
        let special = budget.special.entries().iter().flat_map(|entry| entry.limits.iter());
        budget.limits.iter().chain(special).map(|limit| limit.blocks_at().0 - limit.amount.0).collect()
    };
    let of_overrides = "overrides: [{ match: { user: a }, limit: { tokens: 200 } }]";
    assert_eq!(blocks_at("overage: 10%"), [99, 500_000_000_000], "rounded down");
    assert_eq!(blocks_at(&format!("overage: 0.5, {of_overrides}")), [499, 2_500_000_000_000, 100]);
    assert_eq!(blocks_at(&format!("overage: {{ tokens: 7 }}, {of_overrides}")), [7, 0, 7]);
    assert_eq!(blocks_at("overage: [{ tokens: 7 }, { cost: 1 USD }]"), [7, 1_000_000_000_000]);
    assert_eq!(blocks_at("overage:"), [0, 0]);
    let own = one(&limited("{ cost: 5 USD, overage: 1 USD }\n    overage: 50%"));
    assert_eq!(own.limits.first().overage, Amount(1_000_000_000_000), "a limit's own goes before the budget's");
    check(&limited("{ cost: 5 USD, overage: 1 EUR }"), 4, 36, "budgets[0].limit.overage", "in another currency");
    check(&with("overage: { tokens: 5 }"), 5, 14, "budgets[0].overage", "the budget has no limit of tokens");
    check(&with("overage: 50000"), 5, 14, "budgets[0].overage", "write it like 10%");
    check(&with("overage: { requests: 0 }"), 5, 26, "budgets[0].overage.requests", "more than zero");
    // It is promised too.
    let file = |of_all: &str, of_a: &str| {
        format!(
            "budgets:\n- {{ id: all, window: {{ every: day }}, limit: {{ tokens: 100 }}{of_all} }}\n- {{ id: a, match: {{ team: a }}, window: {{ every: day }}, limit: {{ tokens: 100 }}{of_a} }}\n"
        )
    };
    check(&file("", ", overage: 1%"), 3, 63, "budgets[1].limit", "promises 101 tokens, and `all` above it has 100");
    assert!(BudgetSet::from_yaml(&file(", overage: 1%", ", overage: 1%")).is_ok());
}

#[test]
fn a_preset_says_what_a_budget_does_not_say_itself() {
    let file = |more: &str| {
        one(&format!(
            "presets:\n  trial: {{ mode: canary, canary: 10%, rollback: {{ blocked_over: 20% }}, overage: 50%, alerts: {{ to: [a@b.org] }} }}\n\
             budgets: [{{ id: b, per: [user], window: {{ every: minute }}, limit: {{ tokens: 10 }}, {more} }}]\n"
        ))
    };
    let trial = file("preset: trial");
    assert_eq!((trial.mode, trial.rollback.is_some()), (Mode::Canary(Ppm(100_000)), true));
    assert_eq!((trial.limits.first().overage, trial.alerts.to), (Amount(5), vec!["a@b.org".to_owned()]));
    let other = file("preset: trial, mode: soft, overage: 10%");
    assert_eq!((other.mode, other.rollback), (Mode::Soft, None), "what belongs to a mode comes with it");
    assert_eq!((other.limits.first().overage, other.alerts.to.len()), (Amount(1), 1));
    let production = file("preset: production");
    assert_eq!((production.mode, production.alerts.at), (Mode::Soft, vec![Ppm(500_000), Ppm(800_000), Ppm::ONE]));
    let ci = file("preset: ci");
    assert_eq!((ci.mode, ci.http_status, ci.alerts.at), (Mode::Hard, 403, vec![Ppm::ONE]));
    let own = one(
        "presets: { ci: { mode: shadow } }\nbudgets: [{ id: b, window: { every: day }, limit: { tokens: 1 }, preset: ci }]\n",
    );
    assert_eq!((own.mode, own.alerts.at.len()), (Mode::Shadow, 2));
}

#[test]
fn a_bad_preset_is_refused_where_it_stands() {
    check(&with("preset: c1"), 5, 13, "budgets[0].preset", "did you mean `ci`?");
    check(&with("preset: staging"), 5, 13, "budgets[0].preset", "use one of production, ci, or write it");
    check("presets: { x: { modus: soft } }", 1, 17, "presets.x.modus", "did you mean `mode`?");
    check("presets: { x: { alerts: { at: [0] } } }", 1, 32, "presets.x.alerts.at[0]", "not above 0");
    check("presets: { x: { limit: { tokens: 1 } } }", 1, 17, "presets.x.limit", "unknown field");
    let text = "presets: { x: { mode: canary, canary: 10% } }\nbudgets: [{ id: b, window: { every: day }, limit: { tokens: 1 }, preset: x }]\n";
    check(text, 1, 39, "presets.x.canary", "add `per`");
}

fn breaker(more: &str) -> String {
    format!("breakers:\n- id: loops\n  per: [agent]\n  {more}\n")
}

#[test]
fn a_breaker_is_what_opens_it_and_for_how_long() {
    let set = BudgetSet::from_yaml(&breaker(
        "trip: [{ requests: 600, within: 1m }, { cost: 5 USD, within: 1h }, { tokens: 9, within: 10s, times: 5, of: 10m }, { repeats: 20, within: 30s, tag: hash }]",
    ));
    let loops = set.unwrap().breakers["loops"].as_ref().clone();
    let minute = 60_000_000;
    assert_eq!((loops.open_us, loops.half_open_us, loops.trickle, loops.mode), (minute, minute, 5, Mode::Hard));
    let of = |trip: &Trip| (trip.limit.measure, trip.limit.amount.0, trip.within_us / 1_000_000);
    let trips: Vec<_> = loops.trips.iter().map(of).collect();
    let usd = Measure::Cost(Currency::USD);
    let expected = [
        (Measure::Requests, 600, 60),
        (usd, 5_000_000_000_000, 3_600),
        (Measure::Tokens, 9, 10),
        (Measure::Requests, 20, 30),
    ];
    assert_eq!(trips, expected);
    assert_eq!(loops.trips[2].surge, Some(Surge { times: 5, of_us: 10 * minute }));
    assert_eq!(loops.trips[3].same.as_deref(), Some("hash"));
    let text =
        "trip: [{ requests: 1, within: 1s }]\n  open_for: 30s\n  half_open: { for: 5m, requests: 2 }\n  mode: shadow";
    let set = BudgetSet::from_yaml(&breaker(text)).unwrap();
    let loops = &set.breakers["loops"];
    assert_eq!(
        (loops.open_us, loops.half_open_us, loops.trickle, loops.mode),
        (minute / 2, 5 * minute, 2, Mode::Shadow)
    );
}

#[test]
fn one_breaker_takes_the_place_of_what_has_its_id_and_the_others_stay() {
    let set =
        BudgetSet::from_yaml(&format!("{}{}", with("mode: soft"), breaker("trip: [{ requests: 5, within: 1m }]")))
            .unwrap();
    let (id, other) = set.with_budget("{ id: more, trip: [{ tokens: 9, within: 1s }], mode: shadow }").unwrap();
    assert_eq!((&*id, other.breakers.len(), other.budgets.len()), ("more", 2, 1));
    let (_, other) = set.with_budget("{ id: loops, trip: [{ tokens: 9, within: 1s }] }").unwrap();
    assert_eq!((other.breakers.len(), other.breakers["loops"].per), (1, DimensionSet::default()));
    let (_, other) = set.with_budget("{ id: b, window: { every: hour }, limit: { tokens: 7 } }").unwrap();
    assert_eq!((other.breakers == set.breakers, other.budgets.len()), (true, 1));
    let (_, other) = set.with_budget("{ id: loops, window: { every: hour }, limit: { tokens: 7 } }").unwrap();
    assert_eq!((other.breakers.len(), other.budgets.len()), (0, 2), "an id is of one thing");
    assert_eq!(set.without("loops").breakers.len(), 0);
    let error = set.with_budget("{ id: more, trip: [{ tokens: 9 }] }").unwrap_err();
    assert_eq!(error.field, "trip[0].within");
}

#[test]
fn a_bad_breaker_is_refused_where_it_stands() {
    let check = |more: &str, place: (usize, usize), field: &str, message| {
        check(&breaker(more), place.0, place.1, &format!("breakers[0]{field}"), message);
    };
    check("mode: hard", (2, 3), ".trip", "`trip` is missing");
    check("trip: []", (4, 9), ".trip", "nothing opens it");
    check("trip: [{ requests: 5 }]", (4, 10), ".trip[0].within", "`within` is missing");
    check("trip: [{ within: 1m }]", (4, 10), ".trip[0]", "no measure is named");
    check("trip: [{ request: 5, within: 1m }]", (4, 12), ".trip[0].request", "did you mean `requests`?");
    check("trip: [{ requests: 5, within: 60 }]", (4, 33), ".trip[0].within", "write it like 30s");
    check("trip: [{ requests: 5, within: 2h }]", (4, 33), ".trip[0].within", "not from 1s to 3600s");
    check("trip: [{ requests: 5, within: 1m, times: 5 }]", (4, 44), ".trip[0].times", "`of: 30m`");
    check("trip: [{ requests: 5, within: 1m, times: 5, of: 2h }]", (4, 51), ".trip[0].of", "not from 60s to 3600s");
    check("trip: [{ repeats: 5, within: 1m }]", (4, 10), ".trip[0].tag", "`tag` is missing");
    check("trip: [{ requests: 5, within: 1m, tag: x }]", (4, 42), ".trip[0].tag", "`repeats: 20`");
    check("trip: [{ requests: 5, within: 1m }]\n  mode: soft", (5, 9), ".mode", "use hard or shadow");
    check("trip: [{ requests: 5, within: 1m }]\n  limit: { tokens: 5 }", (5, 3), ".limit", "unknown field");
    let text = format!(
        "budgets: [{{ id: loops, window: {{ every: day }}, limit: {{ tokens: 1 }} }}]\n{}",
        breaker("trip: [{ requests: 5, within: 1m }]")
    );
    self::check(&text, 3, 7, "breakers[0].id", "already used in line 1");
}

#[test]
fn what_has_one_scope_has_no_share_of_them() {
    check(&with("mode: canary"), 2, 5, "budgets[0].canary", "`canary` is missing");
    check(&with("mode: canary\n    canary: 10%"), 6, 13, "budgets[0].canary", "add `per`");
    check(&with("rollback: { blocked_over: 20% }"), 5, 31, "budgets[0].rollback.blocked_over", "add `per`");
}

#[test]
fn the_error_names_the_place_for_people() {
    let error = BudgetSet::from_yaml(&with("mode: block")).unwrap_err();
    assert!(error.to_string().starts_with("line 5, column 11, field budgets[0].mode: \"block\" is no mode"), "{error}");
}

#[test]
fn one_budget_is_put_among_the_others_and_held_against_them() {
    let parent = "{ id: acme, match: { namespace: acme }, window: { every: day }, limit: { tokens: 100 } }";
    let team = |limit: u32| {
        format!(
            "id: team-a\nmatch: {{ namespace: acme, team: a }}\nwindow: {{ every: day }}\nlimit: {{ tokens: {limit} }}\n"
        )
    };
    let set = BudgetSet::from_yaml(&format!("budgets: [{parent}]")).unwrap();
    let (id, with) = set.with_budget(&team(100)).unwrap();
    assert_eq!(
        (&*id, with.budgets.len(), with.budgets["team-a"].limits.clone()),
        ("team-a", 2, one(&limited("{ tokens: 100 }")).limits)
    );
    assert_eq!((with.with_budget(&team(50)).unwrap().1.budgets.len(), with.without("team-a")), (2, set.clone()));
    // What is wrong has its place in the text that was given, or none where it is in another one.
    let error = set.with_budget(&team(101)).unwrap_err();
    assert_eq!((error.line, error.column, error.field.as_str()), (4, 8, "limit"), "{error}");
    let error = with.with_budget(&parent.replace("100", "99")).unwrap_err();
    assert_eq!((error.line, error.field.as_str()), (0, ""), "{error}");
    assert!(error.message.contains("`team-a` promises 100 tokens, and `acme` above it has 99"), "{error}");
    for (text, message) in [("", "it is empty"), ("- a", "this is no mapping"), ("id: a", "`window` is missing")] {
        assert!(set.with_budget(text).unwrap_err().message.contains(message), "{text:?}");
    }
}
