//! Whatever a span counts: the classes are disjoint and add up to its totals, and the event survives the log.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use otlp_intake::{Encoding, OtlpMap, decode_logs, decode_traces};
use proptest::prelude::*;
use prost::Message;
use usage_intake::{Headers, Intake, encode};

use crate::support::{pair, read, resource, span, traces};

const NAMES: [&str; 5] = [
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.reasoning.output_tokens",
];

fn attributes(counts: [Option<i64>; 5]) -> Vec<KeyValue> {
    NAMES.iter().zip(counts).filter_map(|(name, count)| Some(pair(name, count?))).collect()
}

/// Small counts, so that parts are often larger than their wholes, and some at the edges.
fn count() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        2 => Just(None),
        6 => (0_i64..40).prop_map(Some),
        1 => prop_oneof![Just(-1), Just(1 << 48), Just((1 << 48) + 1), Just(i64::MAX), Just(i64::MIN)].prop_map(Some),
    ]
}

proptest! {
    #[test]
    fn classes_are_disjoint_and_add_up_to_the_totals(counts in [count(), count(), count(), count(), count()]) {
        prop_assume!(counts.iter().any(Option::is_some));
        let decoded = read(vec![span(1, attributes(counts))]);
        let [input, cache_read, cache_write, output, reasoning] = counts.map(|count| i128::from(count.unwrap_or(0)));
        let is_possible = counts.into_iter().flatten().all(|count| (0..=1 << 48).contains(&count))
            && cache_read + cache_write <= input
            && reasoning <= output
            && input + output <= 1 << 48;
        prop_assert_eq!(decoded.events.len(), usize::from(is_possible), "{:?}", decoded);
        prop_assert_eq!(decoded.rejected, u64::from(!is_possible));
        if let Some(event) = decoded.events.first() {
            let tokens = event.tokens;
            prop_assert_eq!(i128::from(tokens.input + tokens.cache_read + tokens.cache_write_5m + tokens.cache_write_1h), input);
            prop_assert_eq!(i128::from(tokens.output + tokens.reasoning), output);
            prop_assert_eq!(i128::from(tokens.total()), input + output);
        }
    }

    #[test]
    fn what_is_accepted_here_is_accepted_from_the_log_as_the_same_event(
        texts in prop::collection::vec("\\PC{0,40}", 6),
        input in 0_i64..1000,
    ) {
        let mut attributes = vec![pair(NAMES[0], input)];
        let names = [
            "gen_ai.response.id", "gen_ai.response.model", "gen_ai.provider.name", "user.id", "outlay.namespace", "query_source",
        ];
        attributes.extend(names.iter().zip(&texts).map(|(name, text)| pair(name, text.as_str())));
        for event in read(vec![span(1, attributes)]).events {
            let json = encode(&event);
            let again = Intake::default().decode_record(Some(&json), &Headers::NONE, None);
            prop_assert_eq!(again.map(usage_types::UsageEvent::into_owned), Ok(event));
        }
    }

    #[test]
    fn no_body_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut request = traces(resource(), "scope", vec![span(1, attributes([Some(9), Some(1), None, Some(2), None]))]).encode_to_vec();
        let place = at.index(request.len());
        request[place] = byte;
        for body in [bytes, request] {
            let body = Bytes::from(body);
            for encoding in [Encoding::Protobuf, Encoding::Json] {
                let _ = decode_traces(&body, encoding, &OtlpMap::default());
                let _ = decode_logs(&body, encoding, &OtlpMap::default());
            }
        }
    }
}
