//! How fast records are decoded: `cargo run --release -p usage-intake --example decode_rate`.
//!
//! Prints for one event of each format how long a core needs for it: walking its JSON without keeping anything (the floor of any
//! serde_json reader), building a tree of it, and decoding it. A word as argument chooses the formats with it in their name.
#![allow(clippy::print_stdout, reason = "it is what the example is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;
use serde_json::Value;
use usage_intake::{Headers, Intake};

const NATIVE: &str = r#"{"id":"01J8ZK5V7Q","source":"gateway/eu-1","time":"2026-11-21T10:00:00.123Z","namespace":"support","team":"helpdesk","repository":"acme/bot","user":"u-17","api_key":"k-3","agent":"triage","session":"s-9","task":null,"job":null,"provider":"openai","model":"gpt-5.1","operation":"chat","tokens":{"input":900,"cache_read":300,"cache_write_5m":0,"cache_write_1h":0,"output":80,"reasoning":40},"requests":1,"tool_calls":0,"compute_seconds":"0","cost":null,"tags":{"env":"ci"}}"#;
const CLOUD_EVENT: &str = r#"{"specversion":"1.0","id":"01J8ZK5V7Q","source":"gateway/eu-1","type":"usage","time":"2026-11-21T10:00:00.123Z","datacontenttype":"application/json","data":{"namespace":"support","team":"helpdesk","repository":"acme/bot","user":"u-17","api_key":"k-3","agent":"triage","session":"s-9","provider":"openai","model":"gpt-5.1","operation":"chat","tokens":{"input":900,"cache_read":300,"output":80,"reasoning":40},"requests":1,"tags":{"env":"ci"}}}"#;
const OPENMETER: &str = r#"{"specversion":"1.0","type":"litellm_tokens","id":"chatcmpl-9aX","time":"2026-11-21T10:00:00.123456+00:00","subject":"u-17","source":"litellm-proxy","data":{"model":"gpt-5.1","cost":0.00123,"prompt_tokens":1200,"completion_tokens":120,"total_tokens":1320}}"#;
const HEAD: &str = r#"{"id":"01J8ZK5V7Q","source":"gateway/eu-1","time":"2026-11-21T10:00:00.123Z","namespace":"support","team":"helpdesk","user":"u-17","model":"m","usage":"#;
const OPENAI: &str = r#"{"input_tokens":1200,"input_tokens_details":{"cached_tokens":300},"output_tokens":120,"output_tokens_details":{"reasoning_tokens":40},"total_tokens":1320}"#;
const ANTHROPIC: &str = r#"{"input_tokens":900,"cache_creation_input_tokens":248,"cache_read_input_tokens":300,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100},"output_tokens":120,"server_tool_use":{"web_search_requests":1},"service_tier":"standard"}"#;
const GEMINI: &str = r#"{"promptTokenCount":1200,"cachedContentTokenCount":300,"candidatesTokenCount":80,"totalTokenCount":1320,"promptTokensDetails":[{"modality":"TEXT","tokenCount":1200}],"thoughtsTokenCount":40}"#;
const BEDROCK: &str = r#"{"inputTokens":900,"outputTokens":120,"totalTokens":1320,"cacheReadInputTokens":300,"cacheWriteInputTokens":0,"cacheDetails":[]}"#;

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
    let payload = LITELLM.replace("PROMPT", &"What was said. ".repeat(200));
    compare("LiteLLM's payload", &payload, |body| {
        intake.decode_litellm(&Headers::NONE, body).is_ok_and(|items| items.len() == 1 && items[0].event.is_ok())
    });
}

fn compare(what: &str, text: &str, decode: impl Fn(&[u8]) -> bool) {
    if std::env::args().nth(1).is_some_and(|filter| !what.contains(&filter)) {
        return;
    }
    let bytes = text.as_bytes();
    let walked_ns = measure(what, || serde_json::from_slice::<IgnoredAny>(black_box(bytes)).is_ok());
    let tree_ns = measure(what, || serde_json::from_slice::<Value>(black_box(bytes)).is_ok());
    let decoded_ns = measure(what, || decode(black_box(bytes)));
    println!(
        "{what:<22} {:>6} {walked_ns:>10.0} {tree_ns:>10.0} {decoded_ns:>10.0} {:>14.0}",
        bytes.len(),
        1e9 / decoded_ns
    );
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
