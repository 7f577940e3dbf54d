//! Bytes and schemas made to hurt: no panic, no memory for what is only claimed, no work beyond the record's length.

use std::sync::LazyLock;

use proptest::prelude::*;
use usage_intake::{Encoding, WriterSchema};

use crate::support::{AVSC, PROTO, avro_of, check_refused, decode, framed, good_events, long, proto_of};

static SCHEMAS: LazyLock<[WriterSchema; 3]> = LazyLock::new(|| {
    let recursive = r#"{"type":"record","name":"R","fields":[{"name":"usage","type":["null","R",{"type":"array","items":"R"}]},
        {"name":"tags","type":{"type":"map","values":["null","long","bytes","double","R"]}}]}"#;
    [(Encoding::Avro, AVSC), (Encoding::Protobuf, PROTO), (Encoding::Avro, recursive)]
        .map(|(encoding, schema)| WriterSchema::new(encoding, schema, &[]))
});

/// The most memory that the process has had, in KiB.
#[cfg(target_os = "linux")]
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn claimed_lengths_beyond_the_record_take_no_memory() {
    #[cfg(target_os = "linux")]
    let before = peak_kib();
    for claimed in [1 << 20, 1 << 30, 1 << 40, i64::MAX, i64::MIN, -1] {
        for schema in [
            r#"{"type":"record","name":"R","fields":[{"name":"team","type":"string"}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"team","type":"bytes"}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"other","type":"bytes"}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"usage","type":{"type":"array","items":"null"}}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"other","type":{"type":"array","items":"null"}}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"tags","type":{"type":"map","values":"string"}}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"usage","type":{"type":"array","items":{"type":"array","items":"null"}}}]}"#,
        ] {
            let mut bytes = Vec::new();
            long(claimed, &mut bytes);
            long(claimed, &mut bytes);
            let writer = WriterSchema::new(Encoding::Avro, schema, &[]);
            assert!(decode(&framed(&bytes), Some(&writer)).is_err(), "{claimed} {schema}");
        }
        let mut bytes = vec![0, 0x0a];
        let mut claimed = claimed.cast_unsigned();
        while claimed >= 0x80 {
            bytes.push(u8::try_from(claimed & 0x7f).unwrap() | 0x80);
            claimed >>= 7;
        }
        bytes.push(u8::try_from(claimed).unwrap());
        assert!(decode(&framed(&bytes), Some(&SCHEMAS[1])).is_err());
    }
    #[cfg(target_os = "linux")]
    assert!(peak_kib() - before < 256 * 1024, "{} KiB", peak_kib() - before);
}

/// 14 records, each with two of the next: more values without a byte than are read.
#[test]
fn a_schema_that_makes_much_of_nothing_is_given_up() {
    for name in ["usage", "other"] {
        let mut schema = r#"{"type":"record","name":"R0","fields":[{"name":"a","type":"null"}]}"#.to_owned();
        for level in 1..14 {
            schema = format!(
                r#"{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":{schema}}},{{"name":"b","type":"R{}"}}]}}"#,
                level - 1
            );
        }
        let schema = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"{name}","type":{schema}}}]}}"#);
        let writer = WriterSchema::new(Encoding::Avro, &schema, &[]);
        let field = (name == "usage").then_some("usage");
        check_refused(decode(&framed(b""), Some(&writer)), "out_of_range", field, "more values");
    }
}

#[test]
fn depth_is_bounded() {
    let [.., recursive] = &*SCHEMAS;
    check_refused(decode(&framed(&vec![2; 100_000]), Some(recursive)), "bad_encoding", Some("usage"), "deep");
    let deep = format!("{}\"long\"{}", r#"{"type":"array","items":"#.repeat(100_000), "}".repeat(100_000));
    let writer = WriterSchema::new(Encoding::Avro, &deep, &[]);
    check_refused(decode(&framed(&[0]), Some(&writer)), "unknown_schema", None, "");
    let deep = format!("{}{}", "message A {".repeat(100_000), "}".repeat(100_000));
    let writer = WriterSchema::new(Encoding::Protobuf, &deep, &[]);
    assert!(decode(&framed(&[0]), Some(&writer)).is_err());
}

fn good_payloads() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let values: Vec<_> =
        good_events().into_iter().flat_map(|(_, json, _)| [(0, avro_of(AVSC, &json)), (1, proto_of(&json))]).collect();
    proptest::sample::select(values)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..200), schema in 0..3_usize) {
        let _ = decode(&framed(&value), Some(&SCHEMAS[schema]));
        let _ = decode(&value, None);
    }

    /// Valid events with bytes replaced, cut out and put in: still an event or a rejection that can be sent on.
    #[test]
    fn no_mutated_event_panics(
        (schema, mut value) in good_payloads(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..6),
    ) {
        for (at, edit, byte) in edits {
            if value.is_empty() { break; }
            let at = at.index(value.len());
            match edit {
                0 => value[at] = byte,
                1 => drop(value.remove(at)),
                _ => value.insert(at, byte),
            }
        }
        if let Err(rejection) = decode(&framed(&value), Some(&SCHEMAS[schema])) {
            prop_assert!(!rejection.message.is_empty() && rejection.message.len() < 500 && !rejection.message.contains('\n'));
        }
    }
}
