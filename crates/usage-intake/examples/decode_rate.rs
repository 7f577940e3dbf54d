//! How fast records are decoded: `cargo run --release -p usage-intake --example decode_rate`.
//!
//! Prints for one event of each format how long a core needs for it: walking its JSON without keeping anything (the floor of any
//! serde_json reader), building a tree of it, and decoding it. A word as argument chooses the formats with it in their name.
#![allow(clippy::print_stdout, reason = "it is what the example is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;
use serde_json::Value;
use usage_intake::{Encoding, Headers, Intake, WriterSchema};
use usage_types::{Dimension, TokenClass, UsageEvent};

const NATIVE: &str = r#"{"id":"01J8ZK5V7Q","source":"gateway/eu-1","time":"2026-11-21T10:00:00.123Z","namespace":"support","team":"helpdesk","repository":"acme/bot","user":"u-17","api_key":"k-3","agent":"triage","session":"s-9","task":null,"job":null,"provider":"openai","model":"gpt-5.1","operation":"chat","tokens":{"input":900,"cache_read":300,"cache_write_5m":0,"cache_write_1h":0,"output":80,"reasoning":40},"requests":1,"tool_calls":0,"compute_seconds":"0","cost":null,"tags":{"env":"ci"}}"#;
const CLOUD_EVENT: &str = r#"{"specversion":"1.0","id":"01J8ZK5V7Q","source":"gateway/eu-1","type":"usage","time":"2026-11-21T10:00:00.123Z","datacontenttype":"application/json","data":{"namespace":"support","team":"helpdesk","repository":"acme/bot","user":"u-17","api_key":"k-3","agent":"triage","session":"s-9","provider":"openai","model":"gpt-5.1","operation":"chat","tokens":{"input":900,"cache_read":300,"output":80,"reasoning":40},"requests":1,"tags":{"env":"ci"}}}"#;
const OPENMETER: &str = r#"{"specversion":"1.0","type":"litellm_tokens","id":"chatcmpl-9aX","time":"2026-11-21T10:00:00.123456+00:00","subject":"u-17","source":"litellm-proxy","data":{"model":"gpt-5.1","cost":0.00123,"prompt_tokens":1200,"completion_tokens":120,"total_tokens":1320}}"#;
const HEAD: &str = r#"{"id":"01J8ZK5V7Q","source":"gateway/eu-1","time":"2026-11-21T10:00:00.123Z","namespace":"support","team":"helpdesk","user":"u-17","model":"m","usage":"#;
const OPENAI: &str = r#"{"input_tokens":1200,"input_tokens_details":{"cached_tokens":300},"output_tokens":120,"output_tokens_details":{"reasoning_tokens":40},"total_tokens":1320}"#;
const ANTHROPIC: &str = r#"{"input_tokens":900,"cache_creation_input_tokens":248,"cache_read_input_tokens":300,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100},"output_tokens":120,"server_tool_use":{"web_search_requests":1},"service_tier":"standard"}"#;
const GEMINI: &str = r#"{"promptTokenCount":1200,"cachedContentTokenCount":300,"candidatesTokenCount":80,"totalTokenCount":1320,"promptTokensDetails":[{"modality":"TEXT","tokenCount":1200}],"thoughtsTokenCount":40}"#;
const BEDROCK: &str = r#"{"inputTokens":900,"outputTokens":120,"totalTokens":1320,"cacheReadInputTokens":300,"cacheWriteInputTokens":0,"cacheDetails":[]}"#;

const AVSC: &str = include_str!("../../../schemas/usage-event.v1.avsc");
const PROTO: &str = include_str!("../../../schemas/usage-event.v1.proto");

/// The members that LiteLLM's payload has besides are as long again; the prompt has 3,000 bytes.
const LITELLM: &str = r#"{"id":"chatcmpl-7ce43c28","litellm_call_id":"5d7f509b","trace_id":"tr-45e5","session_id":"","call_type":"acompletion","cache_hit":null,"stream":null,"status":"success","custom_llm_provider":"openai","saved_cache_cost":0.0,"startTime":1795257509.983,"endTime":1795257511.366105,"response_time":1.3831050395965576,"model":"gpt-5.1","metadata":{"user_api_key_hash":"88dc28d0","user_api_key_alias":"k-3","user_api_key_org_alias":"support","user_api_key_team_alias":"helpdesk","user_api_key_user_id":"admin","user_api_key_end_user_id":"u-17","spend_logs_metadata":null,"requester_metadata":{"repository":"acme/bot"},"usage_object":{"completion_tokens":120,"prompt_tokens":1200,"total_tokens":1320,"completion_tokens_details":{"reasoning_tokens":40},"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":300}}},"response_cost":0.00022500000000000002,"cost_breakdown":{"total_cost":0.00022500000000000002,"service_tier":null},"total_tokens":1320,"prompt_tokens":1200,"completion_tokens":120,"request_tags":["prod"],"end_user":"u-17","api_base":"https://api.openai.com","messages":[{"role":"user","content":"PROMPT"}],"response":{"model":"gpt-5.1","choices":[{"finish_reason":"stop","index":0,"message":{"content":"The answer.","role":"assistant"}}]},"model_parameters":{"user":"u-17"},"error_str":null}"#;

fn main() {
    let intake = Intake::default();
    let wrapped = |usage: &str| format!("{HEAD}{usage}}}");
    let records = [
        ("native", NATIVE.to_owned()),
        ("CloudEvent", CLOUD_EVENT.to_owned()),
        ("CloudEvent, mapped", OPENMETER.to_owned()),
        ("usage of OpenAI", wrapped(OPENAI)),
        ("usage of Anthropic", wrapped(ANTHROPIC)),
        ("usage of Gemini", wrapped(GEMINI)),
        ("usage of Bedrock", wrapped(BEDROCK)),
    ];
    println!(
        "{:<22} {:>6} {:>10} {:>10} {:>10} {:>14}",
        "", "bytes", "ns walked", "ns tree", "ns decoded", "decoded/CPU s"
    );
    for (what, record) in &records {
        compare(what, record, |record| intake.decode_record(Some(record), &Headers::NONE, None).is_ok());
    }
    let event =
        intake.decode_record(Some(NATIVE.as_bytes()), &Headers::NONE, None).expect("it is an event").into_owned();
    for (what, encoding, schema, value) in [
        ("the event in Avro", Encoding::Avro, AVSC, avro(&event)),
        ("the event in Protobuf", Encoding::Protobuf, PROTO, protobuf(&event)),
    ] {
        let writer = WriterSchema::new(encoding, schema, &[]);
        assert_eq!(intake.decode_framed(&value, &Headers::NONE, None, Some(&writer)).as_ref(), Ok(&event), "{what}");
        // The bare reading beside it is that of the same event as JSON.
        compare_with(what, &value, NATIVE.as_bytes(), |value| {
            intake.decode_framed(value, &Headers::NONE, None, Some(&writer)).is_ok()
        });
    }
    let payload = LITELLM.replace("PROMPT", &"What was said. ".repeat(200));
    compare("LiteLLM's payload", &payload, |body| {
        intake.decode_litellm(&Headers::NONE, body).is_ok_and(|items| items.len() == 1 && items[0].event.is_ok())
    });
}

fn compare(what: &str, text: &str, decode: impl Fn(&[u8]) -> bool) {
    compare_with(what, text.as_bytes(), text.as_bytes(), decode);
}

fn compare_with(what: &str, bytes: &[u8], json: &[u8], decode: impl Fn(&[u8]) -> bool) {
    if std::env::args().nth(1).is_some_and(|filter| !what.contains(&filter)) {
        return;
    }
    let walked_ns = measure(what, || serde_json::from_slice::<IgnoredAny>(black_box(json)).is_ok());
    let tree_ns = measure(what, || serde_json::from_slice::<Value>(black_box(json)).is_ok());
    let decoded_ns = measure(what, || decode(black_box(bytes)));
    println!(
        "{what:<22} {:>6} {walked_ns:>10.0} {tree_ns:>10.0} {decoded_ns:>10.0} {:>14.0}",
        bytes.len(),
        1e9 / decoded_ns
    );
}

/// The event behind a prefix, in Avro by our schema: id, source, time, dimensions, tokens, requests and tags are there.
fn avro(event: &UsageEvent<'_>) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, 7];
    let varint = |out: &mut Vec<u8>, value: u64| prost::encoding::encode_varint(value << 1, out);
    let text = |out: &mut Vec<u8>, text: Option<&str>| match text {
        None => out.push(0),
        Some(text) => {
            out.push(2);
            varint(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
    };
    text(&mut out, event.id.as_deref());
    text(&mut out, Some(&event.source));
    varint(&mut out, event.time.0.cast_unsigned());
    Dimension::ALL.iter().for_each(|dimension| text(&mut out, event.dimensions.get(*dimension)));
    out.push(2);
    TokenClass::ALL.iter().for_each(|class| varint(&mut out, event.tokens.get(*class)));
    out.extend([0, 0, 2]);
    varint(&mut out, event.requests);
    out.extend([0, 0, 0, 0, 2]);
    varint(&mut out, event.tags.len() as u64);
    for (name, value) in &event.tags {
        for part in [name, value] {
            varint(&mut out, part.len() as u64);
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend([0, 0, 0, 0, 0]);
    out
}

/// The same in Protobuf.
fn protobuf(event: &UsageEvent<'_>) -> Vec<u8> {
    use prost::encoding::{encode_varint, int64, string};
    let mut out = vec![0, 0, 0, 0, 7, 0];
    let message = |out: &mut Vec<u8>, tag: u64, message: &[u8]| {
        encode_varint(tag << 3 | 2, out);
        encode_varint(message.len() as u64, out);
        out.extend_from_slice(message);
    };
    let text = |out: &mut Vec<u8>, tag, text: &str| string::encode(tag, &text.to_owned(), out);
    text(&mut out, 1, event.id.as_deref().unwrap_or_default());
    text(&mut out, 2, &event.source);
    let (mut time, mut tokens) = (Vec::new(), Vec::new());
    int64::encode(1, &(event.time.0 / 1_000_000), &mut time);
    int64::encode(2, &(event.time.0 % 1_000_000 * 1000), &mut time);
    message(&mut out, 3, &time);
    (4..).zip(Dimension::ALL).for_each(|(tag, dimension)| {
        if let Some(value) = event.dimensions.get(dimension) {
            text(&mut out, tag, value);
        }
    });
    (1..)
        .zip(TokenClass::ALL)
        .for_each(|(tag, class)| int64::encode(tag, &event.tokens.get(class).cast_signed(), &mut tokens));
    message(&mut out, 17, &tokens);
    int64::encode(20, &event.requests.cast_signed(), &mut out);
    for (name, value) in &event.tags {
        let mut entry = Vec::new();
        text(&mut entry, 1, name);
        text(&mut entry, 2, value);
        message(&mut out, 25, &entry);
    }
    out
}

/// The best of ten runs of a tenth of a second of this thread's own time, in nanoseconds: what a core can do, whatever its neighbours
/// take.
fn measure(what: &str, mut work: impl FnMut() -> bool) -> f64 {
    let mut best_ns = f64::MAX;
    for _ in 0..10 {
        let (start, on_core) = (Instant::now(), on_core_ns());
        let mut count = 0_u32;
        while start.elapsed() < Duration::from_millis(100) {
            for _ in 0..1000 {
                assert!(black_box(work()), "{what} failed");
            }
            count += 1000;
        }
        let spent_ns = match (on_core, on_core_ns()) {
            (Some(before), Some(after)) => after - before,
            _ => start.elapsed().as_secs_f64() * 1e9,
        };
        best_ns = best_ns.min(spent_ns / f64::from(count));
    }
    best_ns
}

/// How long this thread has been on a core, in nanoseconds, where the system tells (Linux: proc(5), `schedstat`).
fn on_core_ns() -> Option<f64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}
