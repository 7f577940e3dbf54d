//! The pricer says what the book says, whatever it remembers, and remembers no more than its bound.

mod support;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use price_book::{PriceBook, Priced, Pricer};
use proptest::prelude::*;
use usage_types::{ComputeNs, Dimension, TimeUs, TokenClass, Tokens, UsageEvent};

const BOOK: &str = "
currency: USD
source: s
as_of: 2026-11-01
settle_in: USD
exchange_rates:
  - { from_currency: EUR, to_currency: USD, rate: 1.0834, from: 2026-01-02, to: 2026-01-05, source: s }
adjustments:
  - { match: { provider: openai }, multiply: 0.9, from: 2026-01-03 }
  - { match: { provider: azure, model: ab* }, multiply: 1.05 }
  - { match: { service_tier: batch, model: x }, multiply: 0.333333 }
prices:
  - { model: a*, per_million: { input: 1, output: 2, cache_read: 0.1 }, service_tiers: { batch: { multiply: 0.5 } } }
  - { model: ab*, provider: openai, from: 2026-01-02, to: 2026-01-05, per_million: { input: 3, output: 4 } }
  - { model: abc, provider: [openai, azure], from: 2026-01-03, per_million: { input: 5, output: 6, reasoning: 7 } }
  - { model: abc, provider: groq, to: 2026-01-04, per_million: { input: 8, output: 9 }, per_request: 0.001 }
  - { model: x, aliases: [abc, y], provider: groq, from: 2026-01-03, per_million: { input: 10 }, per_tool_call: 1, currency: EUR, tiers: [{ above_input_tokens: 5000, multiply: 2 }] }
  - { model: y, provider: openai, from: 2026-01-02, per_compute_second: 0.1 }
";

/// Read once: the property asks it thousands of times.
static READ: LazyLock<Arc<PriceBook>> =
    LazyLock::new(|| Arc::new(PriceBook::from_yaml(BOOK).expect("a book of this test")));

fn event<'a>(
    provider: Option<&'a str>,
    model: Option<&'a str>,
    tokens: Tokens,
    others: (u64, u64, u64),
) -> UsageEvent<'a> {
    let (requests, tool_calls, compute) = (others.0, others.1, ComputeNs(others.2));
    let named = [(Dimension::Provider, provider), (Dimension::Model, model)];
    UsageEvent { requests, tool_calls, compute, ..support::event(&named, tokens) }
}

fn tokens() -> impl Strategy<Value = Tokens> {
    let count = || prop_oneof![Just(0_u64), 0..10_000_u64, 0..UsageEvent::COUNT_MAX];
    (count(), count(), count(), count(), count(), count()).prop_map(
        |(input, read, write_5m, write_1h, output, reasoning)| Tokens {
            input,
            cache_read: read,
            cache_write_5m: write_5m,
            cache_write_1h: write_1h,
            output,
            reasoning,
        },
    )
}

const TIERS: [Option<&str>; 4] = [None, Some("default"), Some("batch"), Some("flex")];
const PROVIDERS: [Option<&str>; 6] =
    [None, Some("openai"), Some("azure"), Some("azure.ai.openai"), Some("groq"), Some("nobody")];
const MODELS: [Option<&str>; 9] =
    [None, Some("a"), Some("ab"), Some("abc"), Some("abcd"), Some("x"), Some("y"), Some("z"), Some("b")];
/// 2026-01-01T00:00:00Z.
const NEW_YEAR: i64 = 1_767_225_600_000_000;

proptest! {
    #[test]
    fn what_is_remembered_never_changes_a_price(
        asked in prop::collection::vec(
            ((0..PROVIDERS.len(), 0..MODELS.len(), 0..TIERS.len()), tokens(), (0..3_u64, 0..3_u64, 0..5_000_000_000_u64), 0..6_i64, -1..=1_i64),
            1..60,
        )
    ) {
        let book = Arc::clone(&READ);
        let mut pricer = Pricer::new(Arc::clone(&book));
        for ((provider, model, tier), tokens, others, day, offset_us) in asked {
            let mut event = event(PROVIDERS[provider], MODELS[model], tokens, others);
            event.dimensions.set(Dimension::ServiceTier, TIERS[tier].map(Cow::Borrowed));
            // On midnight, where prices change, and a microsecond to either side.
            let at = TimeUs(NEW_YEAR + day * TimeUs::DAY + offset_us);
            prop_assert_eq!(pricer.price(&event, at), book.price(&event, at), "{:?} at {}", event, at);
        }
    }

    #[test]
    fn a_cost_is_the_sum_over_the_classes(tokens in tokens()) {
        let text = "currency: USD\nsource: s\nas_of: 2026-11-01\nprices:\n  - model: m\n    per_million: \
            { input: 1.25, cache_read: 0.125, cache_write_5m: 1.5625, cache_write_1h: 2.5, output: 10, reasoning: 0.000001 }\n";
        let book = PriceBook::from_yaml(text).unwrap();
        let cost = |tokens| match book.price(&event(None, Some("m"), tokens, (1, 0, 0)), TimeUs(0)) {
            Priced::Cost(cost) => cost.amount.0,
            Priced::Unpriced(reason) => panic!("{reason}"),
        };
        let alone = TokenClass::ALL.map(|class| {
            let mut one = Tokens::default();
            *one.get_mut(class) = tokens.get(class);
            cost(one)
        });
        prop_assert_eq!(cost(tokens), alone.iter().sum::<i128>());
    }
}

#[test]
fn a_sender_who_makes_up_models_cannot_make_it_grow() {
    let mut pricer = Pricer::new(Arc::new(PriceBook::from_yaml(BOOK).unwrap()));
    let known = event(Some("openai"), Some("abc"), Tokens { input: 7, ..Tokens::default() }, (1, 0, 0));
    let expected = pricer.book().price(&known, TimeUs(NEW_YEAR + 4 * TimeUs::DAY));
    for n in 0..3 * Pricer::ENTRIES_MAX {
        let name = format!("made-up-{n}");
        let _ = pricer.price(&event(Some("openai"), Some(&name), Tokens::default(), (1, 0, 0)), TimeUs(NEW_YEAR));
        assert!(pricer.entries() <= Pricer::ENTRIES_MAX, "{} after {n}", pricer.entries());
    }
    assert_eq!(pricer.price(&known, TimeUs(NEW_YEAR + 4 * TimeUs::DAY)), expected);
}

/// Not a test of speed on any machine: it prints the figure, and fails only where a lookup is far from remembered.
#[test]
fn a_remembered_model_is_priced_without_looking_it_up_again() {
    const EVENTS: u32 = 1_000_000;
    let mut pricer = Pricer::new(PriceBook::shipped());
    let tokens = Tokens { input: 900, cache_read: 300, output: 80, reasoning: 40, ..Tokens::default() };
    let event = event(Some("openai"), Some("gpt-5.1"), tokens, (1, 0, 0));
    let start = Instant::now();
    let mut priced = 0_u32;
    for _ in 0..EVENTS {
        priced += u32::from(matches!(std::hint::black_box(pricer.price(&event, TimeUs(NEW_YEAR))), Priced::Cost(_)));
    }
    let each_ns = start.elapsed().as_nanos() / u128::from(EVENTS);
    println!("{each_ns} ns an event");
    assert_eq!((priced, pricer.entries()), (EVENTS, 1));
}
