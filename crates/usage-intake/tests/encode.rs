//! What is written as native JSON is read as the same event, whatever the event.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use usage_intake::{COMPUTE_MAX, COST_MAX, Headers, Intake, encode};
use usage_types::{
    ComputeNs, Currency, Dimension, Dimensions, Pico, Progress, Role, TimeUs, TokenClass, Tokens, UsageEvent,
    canonical_key,
};

/// 2000-01-01T00:00:00Z and 10000-01-01T00:00:00Z in microseconds: the times that are read.
const TIMES_US: std::ops::Range<i64> = 946_684_800_000_000..253_402_300_800_000_000;

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..1000_u64, 0..=UsageEvent::COUNT_MAX]
}

/// Any text that an event may have: what JSON escapes, and what takes several bytes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9/:-]{1,12}", "[ \"\\\\{}a-zé支\u{1f980}\u{2028}]{1,20}"]
}

fn role() -> impl Strategy<Value = Role<'static>> {
    prop_oneof![
        3 => Just(Role::Usage),
        1 => Just(Role::Backfill),
        1 => text().prop_map(|id| Role::Amends(format!("of {id}").into())),
        1 => text().prop_map(|id| Role::Voids(format!("of {id}").into())),
        1 => text().prop_map(|run| Role::Adjusts(run.into())),
    ]
}

prop_compose! {
    fn event()(
        (id, source, time) in (proptest::option::of("[a-z\"\\\\]{1,9}"), prop_oneof![Just(String::new()), text()], TIMES_US),
        values in proptest::collection::vec(proptest::option::of(text()), Dimension::COUNT),
        namespace in "[a-z\"é]{1,9}",
        classes in proptest::collection::vec(count(), TokenClass::COUNT),
        (requests, tool_calls, images) in (count(), count(), count()),
        compute in prop_oneof![Just(0), 0..=COMPUTE_MAX.0],
        cost in proptest::option::of(-COST_MAX.0..=COST_MAX.0),
        currency in "[A-Z]{3}",
        tags in proptest::collection::btree_map(text(), prop_oneof![Just(String::new()), text()], 0..4),
        role in role(),
        progress in proptest::option::of((count(), proptest::option::of(count()))),
    ) -> UsageEvent<'static> {
        let mut dimensions = Dimensions::default();
        for (dimension, value) in Dimension::ALL.into_iter().zip(values) {
            dimensions.set(dimension, value.map(Into::into));
        }
        dimensions.set(Dimension::Namespace, Some(namespace.into()));
        let mut tokens = Tokens::default();
        for (class, count) in TokenClass::ALL.into_iter().zip(classes) {
            *tokens.get_mut(class) = count;
        }
        let currency: Currency = currency.parse().unwrap();
        let event = UsageEvent {
            id: id.map(Into::into),
            source: source.into(),
            time: TimeUs(time),
            dimensions,
            tokens,
            requests,
            tool_calls,
            images,
            compute: ComputeNs(compute),
            cost: cost.map(|amount| (Pico(amount), currency)),
            tags: tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect::<BTreeMap<_, _>>(),
            role,
            progress: progress.map(|(done, more)| Progress { processed: done, total: more.map(|more| done.max(more)) }),
        };
        as_intake_would_take_it(event)
    }
}

/// The same event without what its role has no use for, and with a measure where it needs one.
fn as_intake_would_take_it(event: UsageEvent<'static>) -> UsageEvent<'static> {
    let unused = UsageEvent {
        tokens: Tokens::default(),
        requests: 0,
        tool_calls: 0,
        images: 0,
        compute: ComputeNs(0),
        progress: None,
        ..event.clone()
    };
    match event.role {
        Role::Voids(_) => UsageEvent { cost: None, ..unused },
        Role::Adjusts(_) => {
            let (amount, currency) = event.cost.unwrap_or((Pico(-1), Currency::USD));
            UsageEvent { cost: Some((Pico(if amount.0 == 0 { 1 } else { amount.0 }), currency)), ..unused }
        }
        Role::Usage | Role::Backfill | Role::Amends(_) => UsageEvent {
            cost: event.cost.map(|(amount, currency)| (Pico(amount.0.abs()), currency)),
            images: event.images.max(1),
            ..event
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn what_is_written_is_read_as_the_same_event(event in event()) {
        let written = encode(&event);
        let read = Intake::default().decode_record(Some(&written), &Headers::NONE, None);
        prop_assert_eq!(read.as_ref(), Ok(&event), "{}", String::from_utf8_lossy(&written));
        prop_assert_eq!(canonical_key(&read.unwrap()), canonical_key(&event));
        prop_assert!(!written.contains(&b'\n'));
    }
}

#[test]
fn zeros_and_what_is_not_named_are_left_out() {
    let mut dimensions = Dimensions::default();
    dimensions.set(Dimension::Namespace, Some("support".into()));
    let void = UsageEvent {
        id: None,
        source: "".into(),
        time: TimeUs(1_795_255_200_000_000),
        dimensions,
        tokens: Tokens::default(),
        requests: 0,
        tool_calls: 0,
        images: 0,
        compute: ComputeNs(0),
        cost: None,
        tags: BTreeMap::new(),
        role: Role::Voids("e-1".into()),
        progress: None,
    };
    let written = String::from_utf8(encode(&void)).unwrap();
    // 1,795,255,200 s after the epoch is 2026-11-21T10:00:00Z: 20,778 days and ten hours.
    let expected =
        r#"{"time":"2026-11-21T10:00:00Z","namespace":"support","corrects":"e-1","correction":"void","requests":0}"#;
    assert_eq!(written, expected);
    let adjustment =
        UsageEvent { cost: Some((Pico(-12_300_000_000), Currency::USD)), role: Role::Adjusts("r".into()), ..void };
    let written = String::from_utf8(encode(&adjustment)).unwrap();
    assert!(
        written.ends_with(r#""adjusts":"r","requests":0,"cost":{"amount":"-0.0123","currency":"USD"}}"#),
        "{written}"
    );
}
