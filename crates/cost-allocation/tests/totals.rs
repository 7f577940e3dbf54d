//! Whatever the rules and the usage: nothing is lost, and each part is what an independent recomputation says, to less than a pico-unit.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use cost_allocation::{Allocation, InvoiceDifference, UsageSum, allocate};
use num_bigint::BigInt;
use proptest::prelude::*;
use usage_types::{Currency, Dimension, Money, Pico, Scope};

const RULES: [&str; 9] = [
    "from: 2026-10-01, share: { fee: 0.000000000007 USD }, split: even",
    "from: 2026-11-01, share: { fee: 100 EUR }, split: cost, every: day, by: [namespace, team]",
    "from: 2026-11-01, to: 2026-12-01, share: { fee: 3.5 USD }, split: tokens, among: { match: { namespace: [n0, n1] } }, by: [team]",
    "share: { match: { user: u0 } }, split: tokens",
    "share: { match: { user: u1 } }, split: cost, by: [namespace, team]",
    "share: { without: [team] }, fixed: [{ team: t0, part: 33.3 }, { team: t1, part: 66.7 }]",
    "share: { match: { namespace: n2 } }, tag: payer, by: [namespace]",
    "from: 2026-10-01, share: { invoice: p0 }, split: cost",
    "share: { match: { provider: p1 } }, split: even, every: day, among: { without: [user] }",
];

fn usage() -> impl Strategy<Value = UsageSum> {
    let value = |name: &'static str, up_to: u8| prop_oneof![1 => Just(None), 4 => (0..up_to).prop_map(move |number| Some(format!("{name}{number}")))];
    let dimensions = (value("n", 4), value("t", 3), value("u", 3), value("p", 2));
    let cost = prop_oneof![1 => Just(None), 6 => (-(10_i128.pow(13))..10_i128.pow(15), any::<bool>()).prop_map(Some)];
    (0..61_u64, dimensions, -1_000..1_000_000_i128, cost, value("n", 3)).prop_map(
        |(offset, (namespace, team, user, provider), tokens, cost, tag)| {
            let names = [Dimension::Namespace, Dimension::Team, Dimension::User, Dimension::Provider];
            let values = names.into_iter().zip([namespace, team, user, provider]);
            let currency =
                |is_euro: bool| if is_euro { "EUR".parse().expect("as written here") } else { Currency::USD };
            UsageSum {
                day: first() + chrono::Days::new(offset),
                dimensions: Scope::new(values.filter_map(|(name, value)| Some((name, value?)))),
                tags: tag.map(|tag| ("payer".to_owned(), tag)).into_iter().collect(),
                tokens,
                cost: cost.map(|(amount, is_euro)| Money { amount: Pico(amount), currency: currency(is_euro) }),
            }
        },
    )
}

fn first() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 10, 1).expect("as written here")
}

/// From the middle of the first month of usage to the end of the second.
fn span() -> (NaiveDate, NaiveDate) {
    (
        NaiveDate::from_ymd_opt(2026, 10, 15).expect("as written here"),
        NaiveDate::from_ymd_opt(2026, 12, 1).expect("as written here"),
    )
}

fn allocation(chosen: &[usize]) -> Allocation {
    let mut text = "allocations:\n".to_owned();
    for index in chosen {
        text.push_str(&format!("  - {{ id: r{index}, {} }}\n", RULES[*index]));
    }
    Allocation::from_yaml(&text).expect("as written here")
}

/// What fees come to in the whole months or days of the span, by hand: rule 0 has November, rule 1 thirty days, rule 2 November.
fn fees(chosen: &[usize]) -> BTreeMap<String, i128> {
    let mut fees = BTreeMap::new();
    for (index, currency, amount) in [(0, "USD", 7), (1, "EUR", 30 * 100 * Pico::ONE.0), (2, "USD", 3_500_000_000_000)]
    {
        if chosen.contains(&index) {
            *fees.entry(currency.to_owned()).or_default() += amount;
        }
    }
    fees
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_is_lost_and_every_part_is_in_proportion(
        sums in proptest::collection::vec(usage(), 0..40),
        chosen in proptest::sample::subsequence((0..RULES.len()).collect::<Vec<_>>(), 0..=RULES.len()).prop_shuffle(),
        invoiced in proptest::option::of(-(10_i128.pow(14))..10_i128.pow(14)),
    ) {
        let sums: Vec<UsageSum> = sums.into_iter().filter(|sum| span().0 <= sum.day).collect();
        let november = NaiveDate::from_ymd_opt(2026, 11, 1).expect("as written here");
        let usd = |amount| Money { amount: Pico(amount), currency: Currency::USD };
        let invoices: Vec<_> = invoiced
            .map(|amount| InvoiceDifference { provider: "p0".into(), month: november, amount: usd(amount) })
            .into_iter()
            .collect();
        let allocated = allocate(&allocation(&chosen), &sums, &invoices, span()).expect("as written here");

        // Totals by currency.
        let mut expected = fees(&chosen);
        if let Some(amount) = invoiced.filter(|_| chosen.contains(&7)) {
            *expected.entry("USD".into()).or_default() += amount;
        }
        let mut told: BTreeMap<String, i128> = BTreeMap::new();
        for (sum, is_shared) in sums.iter().zip(&allocated.is_shared) {
            let Some(cost) = sum.cost else { continue };
            *expected.entry(cost.currency.to_string()).or_default() += cost.amount.0;
            if !is_shared {
                *told.entry(cost.currency.to_string()).or_default() += cost.amount.0;
            }
        }
        for part in &allocated.parts {
            *told.entry(part.shared.currency.to_string()).or_default() += part.amount.0;
        }
        expected.retain(|_, amount| *amount != 0);
        told.retain(|_, amount| *amount != 0);
        prop_assert_eq!(told, expected);

        // Each pool: its parts add up to it, and each is off its proportion by less than one.
        let mut pools: BTreeMap<(String, NaiveDate, String), i128> = BTreeMap::new();
        for part in &allocated.parts {
            let (weight, of_all) = &part.weight;
            let key = (part.rule.clone(), part.begin, part.shared.currency.to_string());
            *pools.entry(key).or_insert(part.shared.amount.0) -= part.amount.0;
            if *of_all != BigInt::ZERO {
                let off = BigInt::from(part.amount.0) * of_all - BigInt::from(part.shared.amount.0) * weight;
                prop_assert!(off.magnitude() < of_all.magnitude(), "{:?}", part);
            }
        }
        prop_assert!(pools.values().all(|left| *left == 0), "{:?}", pools);
    }

    #[test]
    fn weights_are_what_receivers_used_and_no_rule_shares(sums in proptest::collection::vec(usage(), 0..40)) {
        let november = (NaiveDate::from_ymd_opt(2026, 11, 1).expect("as written here"), span().1);
        let sums: Vec<UsageSum> = sums.into_iter().filter(|sum| november.0 <= sum.day).collect();
        let allocated = allocate(&allocation(&[3]), &sums, &[], november).expect("as written here");
        // Tokens of whatever the rule does not share, by namespace.
        let mut tokens: BTreeMap<Option<&str>, i128> = BTreeMap::new();
        for sum in &sums {
            if sum.cost.is_none() || sum.dimensions.get(Dimension::User) != Some("u0") {
                *tokens.entry(sum.dimensions.get(Dimension::Namespace)).or_default() += sum.tokens;
            }
        }
        for part in &allocated.parts {
            let weight = tokens[&part.receiver.get(Dimension::Namespace)].max(0);
            prop_assert_eq!(&part.weight.0, &BigInt::from(weight));
        }
    }
}
