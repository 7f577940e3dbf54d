//! The commands on files and on a server of their own, with what they print.

use std::io::{Read as _, Write as _};
use std::path::Path;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: PricesOptions,
}

/// What a command prints, and whether it was done; `answer` is what a person says when asked.
fn run(arguments: &[&str], answer: bool) -> (String, Result<bool>) {
    let cli = Cli::try_parse_from([&["prices"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"));
    let mut out = Vec::new();
    let done = match cli.options.command {
        PricesCommand::Explain(options) => explain(&options, &mut out),
        PricesCommand::List(options) => list(&options, &mut out),
        PricesCommand::Diff(options) => show_diff(&options, &mut out),
        PricesCommand::Check { file } => check(&file, &mut out),
        PricesCommand::Import(ImportCommand::Litellm(options)) => {
            import::litellm(&options, &mut out, |_: &Path| Ok(answer))
        }
    };
    (String::from_utf8(out).unwrap(), done)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const BOOK: &str = r#"currency: EUR
source: https://example.com/prices
as_of: 2026-11-01
settle_in: USD
exchange_rates:
  - { from_currency: EUR, to_currency: USD, rate: "1.5", from: 2026-11-01, source: https://example.com/eur }
adjustments:
  - { match: { team: helpdesk }, multiply: 0.5, note: agreed in May }
prices:
  - model: chat-1
    provider: openai
    aliases: [chat-1-20*]
    per_million: { input: 2, output: 8 }
    tiers: [{ above_input_tokens: 1000, multiply: 2 }]
    service_tiers: { batch: { multiply: 0.5 } }
"#;

/// As LiteLLM writes it: 1e-06 $ a token are 1 $ a million.
const LITELLM: &str = r#"{
  "chat-1": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 8e-06},
  "speech": {"litellm_provider": "openai", "mode": "audio_speech", "input_cost_per_character": 1.5e-05}
}"#;

#[test]
fn explain_goes_from_the_rule_to_the_charge_or_says_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prices.yaml");
    std::fs::write(&file, BOOK).unwrap();
    let at = ["--at", "2026-11-21", "--prices", text(&file)];
    let asked = ["explain", "chat-1-20261101", "--input-tokens", "1001", "--service-tier", "batches"];
    let (printed, done) = run(&[&asked[..], &["--dimension", "team=helpdesk"], &at].concat(), false);
    assert!(done.unwrap());
    // 2 € × 2 above 1,000 tokens × 0.5 in a batch = 2 €; × 0.5 × 1.5 = 1.5 $. Output 8 € in the same way.
    let expected = "chat-1-20261101 at 2026-11-21T00:00:00Z\n  \
        rule: wildcard match of `chat-1-20*` for `chat-1`, on whose price openai agree (line 10 of the price file; \
        https://example.com/prices as of 2026-11-01)\n  \
        service tier: batch (the entry prices standard, batch)\n  \
        prompt: 1001 input tokens, the price above 1000 (tiers above 1000)\n  \
        adjustment: × 0.5 for team=helpdesk (line 8 of the price file): agreed in May\n  \
        exchange: 1 EUR is 1.5 USD, from 2026-11-01T00:00:00Z (line 6 of the price file; https://example.com/eur)\n  \
        input           2 EUR per million tokens → 1.5 USD\n  \
        output          8 EUR per million tokens → 6 USD\n  \
        reasoning       8 EUR per million tokens → 6 USD\n";
    assert_eq!(printed, expected);

    let (printed, done) = run(&[&["explain", "chat-1", "--service-tier", "flex"][..], &at].concat(), false);
    assert!(!done.unwrap());
    assert!(printed.contains("unpriced (no_service_tier)"), "{printed}");
    assert!(printed.contains("line 10: `chat-1` of openai (exact); service tiers: standard, batch"), "{printed}");
}

#[test]
fn list_has_a_line_for_each_tier_and_check_tells_what_is_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prices.yaml");
    std::fs::write(&file, BOOK).unwrap();
    let (printed, done) = run(&["list", "chat", "--provider", "openai", "--prices", text(&file)], false);
    assert!(done.unwrap());
    let lines: Vec<&str> = printed.lines().map(|line| line.split_once("chat-1").unwrap().1.trim_start()).collect();
    assert_eq!(
        lines,
        [
            "standard: input 2, output 8, reasoning 8 EUR",
            "standard above 1000: input 4, output 16, reasoning 16 EUR",
            "batch: input 1, output 4, reasoning 4 EUR",
            "batch above 1000: input 2, output 8, reasoning 8 EUR",
        ]
    );
    assert_eq!(run(&["list", "--provider", "groq", "--prices", text(&file)], false).0, "");

    let (printed, done) = run(&["check", text(&file)], false);
    assert!(done.unwrap());
    assert!(printed.contains("1 entries with 12 prices of 1 providers, 1 adjustments, 1 exchange rates"), "{printed}");
    std::fs::write(&file, BOOK.replace("from: 2026-11-01,", "from: 2026-11-01, to: 2026-11-02,")).unwrap();
    assert!(run(&["check", text(&file)], false).0.contains("no exchange rate for EUR"));
    std::fs::write(&file, BOOK.replace("output: 8", "output: 8e")).unwrap();
    let error = format!("{:#}", run(&["check", text(&file)], false).1.unwrap_err());
    assert!(error.contains("prices.yaml: line 13, column") && error.contains("per_million.output"), "{error}");
}

#[test]
fn an_import_is_written_only_with_a_yes_and_keeps_what_was_agreed() {
    let dir = tempfile::tempdir().unwrap();
    let (file, list) = (dir.path().join("prices.yaml"), dir.path().join("litellm.json"));
    std::fs::write(&file, BOOK).unwrap();
    std::fs::write(&list, LITELLM).unwrap();
    let arguments = ["import", "litellm", text(&list), "--out", text(&file)];

    let (printed, done) = run(&arguments, false);
    assert!(!done.unwrap());
    assert!(printed.contains("~ openai chat-1 input: 2 EUR → 1 USD"), "{printed}");
    assert!(printed.contains("1 entries: billed by units that events do not count"), "{printed}");
    assert!(printed.contains("was not written"), "{printed}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), BOOK);

    for (arguments, answer) in [(&arguments[..], true), (&[&arguments[..], &["--yes"]].concat(), false)] {
        std::fs::write(&file, BOOK).unwrap();
        assert!(run(arguments, answer).1.unwrap());
        let book = read_book(&file).unwrap();
        assert_eq!((book.rules().len(), book.rules()[0].model.as_str()), (1, "chat-1"));
        assert_eq!((book.adjustments().len(), book.exchange_rates().len()), (1, 1));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "nothing half written is left: {left:?}");
    }
    let json = run(&["diff", "shipped", text(&file), "--json"], false).0;
    let changes: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(changes["added"][0]["model"], "chat-1");

    std::fs::write(&list, "[]").unwrap();
    assert!(format!("{:#}", run(&arguments, true).1.unwrap_err()).contains("no price list of LiteLLM"));
}

#[test]
fn a_list_is_fetched_from_an_address_and_an_answer_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prices.yaml");
    for (status, written) in [("200 OK", true), ("404 Not Found", false)] {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/list.json", server.local_addr().unwrap());
        let answering = std::thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let read = client.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            let length = LITELLM.len();
            write!(client, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{LITELLM}")
                .unwrap();
        });
        let (printed, done) = run(&["import", "litellm", &url, "--out", text(&file), "--yes"], false);
        answering.join().unwrap();
        assert_eq!(done.is_ok(), written, "{printed}");
        assert_eq!(file.exists(), written);
        let _ = std::fs::remove_file(&file);
    }
}
