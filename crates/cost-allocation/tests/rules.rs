//! What a file may say, and what each rule does with usage.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use cost_allocation::{Allocated, Allocation, InvoiceDifference, Reason, UsageSum, allocate};
use usage_types::{Dimension, Money, Scope};

fn day(text: &str) -> NaiveDate {
    text.parse().expect("as written here")
}

fn money(text: &str) -> Money {
    text.parse().expect("as written here")
}

/// `2026-11-03 namespace=a,team=x 100 "3.00 USD"`, or without a cost.
fn sum(date: &str, dimensions: &[(Dimension, &str)], tokens: i128, cost: &str) -> UsageSum {
    let cost = (!cost.is_empty()).then(|| money(cost));
    let dimensions = Scope::new(dimensions.iter().copied());
    UsageSum { day: day(date), dimensions, tags: BTreeMap::new(), tokens, cost }
}

fn rules(text: &str) -> Allocation {
    Allocation::from_yaml(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn november(rules: &Allocation, sums: &[UsageSum], invoices: &[InvoiceDifference]) -> Allocated {
    allocate(rules, sums, invoices, (day("2026-11-01"), day("2026-12-01"))).expect("as written here")
}

/// Each part as `rule receiver amount`.
fn parts(allocated: &Allocated) -> Vec<String> {
    let line = |part: &cost_allocation::Part| {
        format!("{} {} {} {}", part.rule, part.receiver, part.amount, part.shared.currency)
    };
    allocated.parts.iter().map(line).collect()
}

use Dimension::{ApiKey, Namespace, Provider, Team};

fn usage() -> Vec<UsageSum> {
    vec![
        sum("2026-11-02", &[(Namespace, "a"), (Team, "x"), (Provider, "openai")], 600, "2.00 USD"),
        sum("2026-11-02", &[(Namespace, "b"), (Team, "y"), (Provider, "openai")], 300, "4.00 USD"),
        sum("2026-11-20", &[(Namespace, "b"), (Provider, "anthropic")], 100, "0.50 USD"),
        sum("2026-11-20", &[(Namespace, "a"), (ApiKey, "k-shared"), (Provider, "openai")], 50, "1.00 USD"),
        sum("2026-11-20", &[(Namespace, "c"), (Provider, "openai")], 1000, ""),
    ]
}

#[test]
fn a_fee_is_borne_as_the_rule_says() {
    for (split, expected) in [
        // A third of 0.1 has no end: the one pico-unit that is left goes to the first.
        (
            "split: even",
            vec![
                "fee namespace=a 0.033333333334 USD",
                "fee namespace=b 0.033333333333 USD",
                "fee namespace=c 0.033333333333 USD",
            ],
        ),
        // 650, 400 and 1000 of 2050 tokens: 0.0317…, 0.0195…, 0.0487…, in pico-units.
        (
            "split: tokens",
            vec![
                "fee namespace=a 0.031707317073 USD",
                "fee namespace=b 0.019512195122 USD",
                "fee namespace=c 0.048780487805 USD",
            ],
        ),
        // 3.00 and 4.50 of 7.50; what has no price bears nothing.
        ("split: cost", vec!["fee namespace=a 0.04 USD", "fee namespace=b 0.06 USD"]),
        (
            "fixed: [{ namespace: z, part: 12.5 }, { namespace: a, part: 37.5 }]",
            vec!["fee namespace=a 0.075 USD", "fee namespace=z 0.025 USD"],
        ),
        (
            "split: cost\n    by: [team]\n    among: { match: { namespace: b } }",
            vec!["fee * 0.011111111111 USD", "fee team=y 0.088888888889 USD"],
        ),
        ("split: even\n    by: [team]\n    among: { without: [team] }", vec!["fee * 0.1 USD"]),
    ] {
        let file =
            format!("allocations:\n  - id: fee\n    from: 2026-01-01\n    share: {{ fee: 0.1 USD }}\n    {split}\n");
        let allocated = november(&rules(&file), &usage(), &[]);
        assert_eq!(parts(&allocated), expected, "{split}");
        assert_eq!(allocated.is_shared, [false; 5]);
    }
}

#[test]
fn usage_that_is_shared_leaves_where_it_fell_and_weighs_nothing_itself() {
    let file = "
allocations:
  - { id: shared-key, share: { match: { api_key: [k-shared, k-other] } }, split: cost }
  - { id: nobody, share: { without: [team] }, fixed: [{ team: x, part: 1 }, { team: y, part: 3 }] }
";
    let allocated = november(&rules(file), &usage(), &[]);
    // The shared key's 1.00 by 2.00 and nothing of b, whose usage is direct but for 0.50 that the second rule shares.
    let expected = [
        "shared-key namespace=a 0.333333333333 USD",
        "shared-key namespace=b 0.666666666667 USD",
        "nobody team=x 0.125 USD",
        "nobody team=y 0.375 USD",
    ];
    assert_eq!(parts(&allocated), expected);
    // The first rule that it belongs to takes the key's usage, though it names no team; what has no price is not shared.
    assert_eq!(allocated.is_shared, [false, false, true, true, false]);
}

#[test]
fn a_tag_names_who_bears_usage_and_what_has_none_stays() {
    let file =
        "allocations: [{ id: tagged, share: { match: { provider: openai } }, tag: cost_center, by: [namespace] }]";
    let mut usage = usage();
    usage[0].tags.insert("cost_center".into(), "cc-1".into());
    usage[3].tags.insert("cost_center".into(), "cc-2".into());
    usage[3].tags.insert("other".into(), "cc-1".into());
    let allocated = november(&rules(file), &usage, &[]);
    assert_eq!(parts(&allocated), ["tagged namespace=cc-1 2 USD", "tagged namespace=cc-2 1 USD"]);
    assert_eq!(allocated.is_shared, [true, false, false, true, false]);
}

#[test]
fn what_an_invoice_has_more_is_borne_by_those_who_used_its_provider() {
    let file = "allocations: [{ id: rest, from: 2026-10-01, share: { invoice: openai }, split: cost }]";
    let difference =
        |amount| [InvoiceDifference { provider: "openai".into(), month: day("2026-11-01"), amount: money(amount) }];
    let allocated = november(&rules(file), &usage(), &difference("0.7 USD"));
    assert_eq!(parts(&allocated), ["rest namespace=a 0.3 USD", "rest namespace=b 0.4 USD"]);
    let allocated = november(&rules(file), &usage(), &difference("-0.7 USD"));
    assert_eq!(parts(&allocated), ["rest namespace=a -0.3 USD", "rest namespace=b -0.4 USD"]);
    // In a currency that nobody has cost in, nobody bears it, and it is said.
    let allocated = november(&rules(file), &usage(), &difference("0.7 EUR"));
    assert_eq!(parts(&allocated), ["rest * 0.7 EUR"]);
    assert_eq!(allocated.notes[0].reason, Reason::NoReceiver);
    let allocated = november(&rules(file), &usage(), &[]);
    assert_eq!((parts(&allocated).len(), allocated.notes[0].reason), (0, Reason::NoInvoice));
}

#[test]
fn a_rule_shares_whole_months_in_which_it_is_in_force() {
    let file = |dates: &str| {
        rules(&format!(
            "allocations: [{{ id: key, {dates} share: {{ match: {{ api_key: k-shared }} }}, split: even }}]"
        ))
    };
    let shared = |rules: &Allocation, from: &str, to: &str| {
        let allocated = allocate(rules, &usage(), &[], (day(from), day(to))).expect("as written here");
        (allocated.is_shared[3], allocated.notes.iter().map(|note| note.reason).collect::<Vec<_>>())
    };
    for (dates, expected) in [
        ("", true),
        ("from: 2026-11-01,", true),
        ("from: 2026-12-01,", false),
        ("to: 2026-11-01,", false),
        ("from: 2026-10-01, to: 2026-12-01,", true),
    ] {
        assert_eq!(shared(&file(dates), "2026-11-01", "2026-12-01"), (expected, vec![]), "{dates}");
    }
    assert_eq!(shared(&file(""), "2026-11-20", "2026-11-21"), (false, vec![Reason::PartOfMonth]));
    assert_eq!(shared(&file("every: day,"), "2026-11-20", "2026-11-21"), (true, vec![]));
    // Without anybody on that day to bear it, it stays.
    let alone = [usage().remove(3)];
    let daily =
        allocate(&file("every: day,"), &alone, &[], (day("2026-11-20"), day("2026-11-21"))).expect("as written here");
    assert_eq!((daily.is_shared[0], daily.notes[0].reason), (false, Reason::NoReceiver));
}
