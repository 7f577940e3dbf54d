//! The first command of the README, to its end.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod common;

use std::time::{Duration, Instant};

use crate::common::server::{run, verify};

#[test]
fn the_demo_mails_blocks_and_charges_back_to_the_last_pico_dollar() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("demo");
    let begun = Instant::now();
    let args =
        ["--exit", "--seconds", "5", "--data", data.to_str().unwrap(), "--http", "127.0.0.1:0", "--log", "127.0.0.1:0"];
    let output = run("demo", &args);
    let (shown, told) =
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    let all = format!("{shown}\n---\n{told}");
    assert_eq!(output.status.code(), Some(0), "{all}");
    assert!(begun.elapsed() >= Duration::from_secs(5), "the replay keeps its own timing");

    assert!(shown.contains("difference              0 pico-USD\n"), "{all}");
    let amount = |label: &str| {
        let line = shown
            .lines()
            .find(|line| line.trim_start().starts_with(label))
            .unwrap_or_else(|| panic!("no `{label}` in {all}"));
        line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap().to_owned()
    };
    // The third computation of the total, which shares no code with the other two.
    let script = common::repository("tests/data/recompute.py");
    let recomputed = std::process::Command::new("python3").arg(script).output().unwrap();
    let recomputed: serde_json::Value = serde_json::from_slice(&recomputed.stdout).unwrap();
    assert_eq!(amount("sum of the report"), recomputed["total"]["cost"].as_str().unwrap(), "{all}");
    assert_eq!(amount("total of the trace"), recomputed["total"]["cost"].as_str().unwrap(), "{all}");

    assert!(told.contains("BLOCKED namespace=support by support-daily: NAMESPACE_QUOTA_EXCEEDED"), "{all}");
    assert!(told.lines().any(|line| line.contains("mail: ") && line.contains("80% of budget")), "{all}");
    assert!(told.contains("events/s"), "{all}");
    for namespace in ["checkout", "data-platform", "research", "search", "support"] {
        assert!(shown.contains(namespace), "{namespace} is not in the chargeback: {all}");
    }
    let mails = std::fs::read_dir(data.join("mail")).unwrap().count();
    // support 80 % and 100 %, checkout 80 %.
    assert_eq!(mails, 3, "{all}");
    let (sound, said) = verify(&data);
    assert!(sound, "{said}");

    // A second demo empties its own folder, and no other.
    let other = dir.path().join("precious");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("thesis.txt"), "years").unwrap();
    let output =
        run("demo", &["--exit", "--data", other.to_str().unwrap(), "--http", "127.0.0.1:0", "--log", "127.0.0.1:0"]);
    assert!(!output.status.success() && other.join("thesis.txt").exists());
}
