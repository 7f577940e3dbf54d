//! The costs of charges: they add up to the usage's, and its prices are those that were charged.
#![allow(clippy::unwrap_used)]

mod support;

use focus_report::{Basis, Bill, Entry, FocusError, PriceEdges, Usage};
use price_book::{PriceBook, PriceClass, PriceRule};
use proptest::prelude::*;
use support::{
    CACHE_READ, INPUT, OUTPUT, at, book, dimensions, event, negated, priced, summed, usage_of, usage_with_cost,
};
use usage_types::{ComputeNs, CostOrigin, Dimension, Pico, TimeUs, Tokens, UsageEvent};

const NOON: &str = "2026-11-20T12:00:00Z";

fn bill<'a>(book: &'a PriceBook, usage: &'a Usage) -> Bill<'a> {
    Bill::of(book, usage).unwrap()
}

fn billed(bill: &Bill<'_>) -> Vec<(PriceClass, i128, String)> {
    bill.charges.iter().map(|charge| (charge.class.unwrap(), charge.count, charge.billed.to_string())).collect()
}

/// A price of so many digits after the point as text.
fn price(value: i128) -> String {
    let text = format!("{}.{:018}", value / 10_i128.pow(18), value % 10_i128.pow(18));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[test]
fn each_token_class_is_a_charge_at_its_price_per_million() {
    let book = book();
    let usage = usage_of(
        &book,
        event("long", at(NOON), Tokens { input: 400, cache_read: 300, output: 80, ..Tokens::default() }),
    );
    let bill = bill(&book, &usage);
    // 400 × 1.25 + 300 × 0.125 + 80 × 10 millionths.
    assert_eq!(usage.cost.to_string(), "0.0013375");
    let expected = [(INPUT, 400, "0.0005"), (CACHE_READ, 300, "0.0000375"), (OUTPUT, 80, "0.0008")];
    assert_eq!(billed(&bill), expected.map(|(class, count, cost)| (class, count, cost.to_owned())));
    let prices = bill.charges[0].prices.unwrap();
    assert_eq!(
        (prices.basis, price(prices.list), price(prices.contracted)),
        (Basis::PriceBook, "1.25".into(), "1.25".into())
    );
    assert_eq!((prices.list_cost, prices.contracted_cost), (500_000_000, 500_000_000));
    assert_eq!(
        (bill.provider.as_deref(), bill.service_tier.as_str(), bill.above_input_tokens),
        (Some("openai"), "standard", Some(0))
    );
}

#[test]
fn a_long_prompt_at_another_service_tier_has_the_price_of_both() {
    let book = book();
    let mut batch = event("long", at(NOON), Tokens { input: 1001, output: 2, ..Tokens::default() });
    batch.dimensions.set(Dimension::ServiceTier, Some("batches".into()));
    let usage = usage_of(&book, batch);
    let bill = bill(&book, &usage);
    assert_eq!((bill.service_tier.as_str(), bill.above_input_tokens), ("batch", Some(1000)));
    assert_eq!(billed(&bill), [(INPUT, 1001, "0.00125125".into()), (OUTPUT, 2, "0.000015".into())]);
    assert_eq!(price(bill.charges[0].prices.unwrap().list), "1.25", "half of 2.5");
}

#[test]
fn a_discount_and_another_currency_are_in_the_contracted_price_and_not_in_the_list_price() {
    let book = book();
    let mut sold = event("fees", at(NOON), Tokens { input: 1_000_000, ..Tokens::default() });
    sold.dimensions.set(Dimension::Namespace, Some("support".into()));
    sold.compute = ComputeNs(1_500_000_000);
    let usage = usage_of(&book, sold);
    let bill = bill(&book, &usage);
    let classes: Vec<_> = bill.charges.iter().map(|charge| charge.class.unwrap()).collect();
    assert_eq!(classes, [INPUT, PriceClass::Request, PriceClass::ComputeSecond]);
    let prices = bill.charges[0].prices.unwrap();
    assert_eq!(prices.basis, Basis::PriceBook);
    // 0.4 EUR × 1.083412345, and × 0.85.
    assert_eq!((price(prices.list), price(prices.contracted)), ("0.433364938".into(), "0.3683601973".into()));
    assert_eq!((price(prices.pricing_list), price(prices.pricing_contracted)), ("0.4".into(), "0.34".into()));
    assert_eq!((prices.pricing_currency.as_str(), Pico(prices.pricing_cost).to_string()), ("EUR", "0.34".into()));
    assert_eq!(bill.charges.iter().map(|charge| charge.billed.0).sum::<i128>(), usage.cost.0);
    assert_eq!(bill.provider.as_deref(), Some("mistral_ai"), "by its OpenTelemetry name");
}

#[test]
fn a_cost_that_the_sender_gave_is_split_as_the_book_would_and_priced_by_what_was_paid() {
    let book = book();
    let tokens = Tokens { input: 400, output: 100, ..Tokens::default() };
    let usage = usage_with_cost(event("long", at(NOON), tokens), "0.000003000001");
    let bill = bill(&book, &usage);
    // By the book 500 and 1000 millionths: a third and two thirds.
    assert_eq!(billed(&bill), [(INPUT, 400, "0.000001".into()), (OUTPUT, 100, "0.000002000001".into())]);
    let prices = bill.charges[1].prices.unwrap();
    assert_eq!(
        (prices.basis, price(prices.list), price(prices.contracted)),
        (Basis::Average, "10".into(), "0.02000001".into())
    );
    assert_eq!((prices.contracted_cost, prices.list_cost), (2_000_001, 1_000_000_000));
}

#[test]
fn a_cost_that_no_price_explains_has_the_same_price_for_each_token() {
    let tokens = Tokens { input: 3, output: 4, ..Tokens::default() };
    let usage = usage_with_cost(event("home-made", at(NOON), tokens), "0.000000000010");
    let book = book();
    let bill = bill(&book, &usage);
    // 4.29 and 5.71: the larger remainder gets the one that is left.
    assert_eq!(billed(&bill), [(INPUT, 3, "0.000000000004".into()), (OUTPUT, 4, "0.000000000006".into())]);
    let prices = bill.charges[0].prices.unwrap();
    assert_eq!((prices.list, prices.contracted_cost), (prices.contracted, 4));
}

#[test]
fn a_cost_without_tokens_is_for_the_requests_and_one_of_nothing_is_no_usage() {
    let book = book();
    let usage = usage_with_cost(event("home-made", at(NOON), Tokens::default()), "0.04");
    assert_eq!(billed(&bill(&book, &usage)), [(PriceClass::Request, 1, "0.04".into())]);
    let mut nothing = event("home-made", at(NOON), Tokens::default());
    nothing.requests = 0;
    let usage = usage_with_cost(nothing, "0.04");
    let bill = bill(&book, &usage);
    assert_eq!((bill.charges.len(), bill.charges[0].class, bill.charges[0].prices), (1, None, None));
    assert_eq!(bill.charges[0].billed.to_string(), "0.04");
}

#[test]
fn a_price_that_was_changed_afterwards_is_not_said_to_have_been_charged() {
    let book = book();
    let mut usage = usage_of(&book, event("long", at(NOON), Tokens { input: 400, ..Tokens::default() }));
    usage.cost = Pico(usage.cost.0 * 2);
    let prices = bill(&book, &usage).charges[0].prices.unwrap();
    assert_eq!(
        (prices.basis, price(prices.contracted), price(prices.list)),
        (Basis::Average, "2.5".into(), "1.25".into())
    );
    // Half a pico-unit a row may be rounding; more is not.
    usage.cost = Pico(500_000_001);
    assert_eq!(bill(&book, &usage).charges[0].prices.unwrap().basis, Basis::Average);
    usage.rows = 2;
    assert_eq!(bill(&book, &usage).charges[0].prices.unwrap().basis, Basis::PriceBook);
}

#[test]
fn what_is_taken_back_has_the_same_price_and_the_opposite_sign() {
    let book = book();
    let usage =
        usage_of(&book, event("changes", at(NOON), Tokens { input: 7, cache_read: 5, output: 3, ..Tokens::default() }));
    let (given, taken) = (bill(&book, &usage), negated(&usage));
    let taken = bill(&book, &taken);
    for (one, other) in given.charges.iter().zip(&taken.charges) {
        assert_eq!((one.count, one.billed.0), (-other.count, -other.billed.0));
        let (one, other) = (one.prices.unwrap(), other.prices.unwrap());
        assert_eq!(
            (one.list, one.contracted, one.contracted_cost),
            (other.list, other.contracted, -other.contracted_cost)
        );
    }
    let adjustment = Usage { entry: Entry::Adjustment("reprice-1".into()), ..negated(&usage) };
    let adjusted = bill(&book, &adjustment);
    assert_eq!(
        (adjusted.charges.len(), adjusted.charges[0].class, adjusted.charges[0].billed),
        (1, None, adjustment.cost)
    );
}

#[test]
fn a_number_that_no_decimal_holds_is_an_error_that_names_the_sku() {
    let mut usage = usage_with_cost(event("home-made", at(NOON), Tokens { input: 1, ..Tokens::default() }), "1");
    usage.cost = Pico::MAX;
    let error = Bill::of(&book(), &usage).unwrap_err();
    assert_eq!(error, FocusError::OutOfRange { what: "price", sku: "openai/home-made/input".into() });
}

fn events() -> impl Strategy<Value = Vec<UsageEvent<'static>>> {
    let model = prop_oneof![Just("long"), Just("changes"), Just("fees")];
    let hours = 0_i64..72;
    let counts = (0_u64..1500, 0_u64..1500, 0_u64..4, 0_u64..2_000_000_000);
    let who = (prop_oneof![Just("research"), Just("support")], prop_oneof![Just("day"), Just("night")], any::<bool>());
    let event =
        (model, hours, counts, who).prop_map(|(model, hour, (input, cache, output, ns), (namespace, team, batch))| {
            let time = TimeUs(at("2026-11-19T00:00:00Z").0 + hour * TimeUs::HOUR);
            let tokens =
                Tokens { input, cache_read: if model == "fees" { 0 } else { cache }, output, ..Tokens::default() };
            let mut event = event(model, time, tokens);
            event.dimensions.set(Dimension::Namespace, Some(namespace.into()));
            event.dimensions.set(Dimension::Team, Some(team.into()));
            if batch && model == "long" {
                event.dimensions.set(Dimension::ServiceTier, Some("batch".into()));
            }
            if model == "fees" {
                (event.compute, event.tool_calls) = (ComputeNs(ns), output);
            }
            event
        });
    proptest::collection::vec(event, 1..60)
}

proptest! {
    /// The edges tell apart whatever has another price: else a sum would not be what the book makes of its quantities.
    #[test]
    fn charges_add_up_to_the_cost_and_the_book_explains_each_sum(events in events()) {
        let book = book();
        let rows = priced(&book, events);
        let sums = summed(&PriceEdges::of(&book), &rows);
        let mut total = 0;
        for usage in &sums {
            let bill = Bill::of(&book, usage).unwrap();
            prop_assert_eq!(bill.charges.iter().map(|charge| charge.billed.0).sum::<i128>(), usage.cost.0);
            for charge in &bill.charges {
                let prices = charge.prices.unwrap();
                prop_assert_eq!(prices.basis, Basis::PriceBook, "{:?}", usage);
                // Each row was rounded by half a pico-unit at most, a class takes at most one that is left, and the product is rounded.
                let off = (prices.contracted_cost - charge.billed.0).unsigned_abs();
                prop_assert!(off <= u128::from(usage.rows) + 2, "{} of {:?}", off, usage);
            }
            total += usage.cost.0;
        }
        prop_assert_eq!(total, rows.iter().map(|(_, cost)| cost.amount.0).sum::<i128>());
        prop_assert!(rows.iter().all(|(_, cost)| cost.origin == CostOrigin::PriceBook));
    }
}

#[test]
fn usage_without_a_provider_is_of_the_only_one_whose_price_it_has() {
    let book = book();
    let mut nameless = event("long", at(NOON), Tokens { input: 1, ..Tokens::default() });
    nameless.dimensions = dimensions(&[(Dimension::Namespace, "research"), (Dimension::Model, "long")]);
    let usage = usage_of(&book, nameless.clone());
    assert_eq!(bill(&book, &usage).provider.as_deref(), Some("openai"));
    nameless.dimensions.set(Dimension::Model, Some("home-made".into()));
    let usage = usage_with_cost(nameless, "1");
    assert_eq!(bill(&book, &usage).provider, None);
}

#[test]
fn edges_are_all_that_prices_depend_on() {
    let edges = PriceEdges::of(&book());
    let times: Vec<String> = edges.times.iter().map(ToString::to_string).collect();
    assert_eq!(times, ["2026-11-01T00:00:00Z", "2026-11-20T06:00:00Z", NOON, "2026-11-20T18:00:00Z"]);
    assert_eq!(edges.input_tokens, [1000, 2000]);
    assert_eq!(edges.dimensions.iter().collect::<Vec<_>>(), [Dimension::Namespace, Dimension::Team]);
    let shipped = PriceBook::shipped();
    assert!(shipped.rules().iter().flat_map(PriceRule::cards).any(|(_, card)| !card.tiers.is_empty()));
    assert!(!PriceEdges::of(&shipped).input_tokens.is_empty());
}
