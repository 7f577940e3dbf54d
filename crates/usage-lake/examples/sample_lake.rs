//! Writes a small lake for other readers to open, and prints what they must find in it as JSON.
//!
//! `cargo run -p usage-lake --example sample_lake -- FOLDER`; `tests/readers/run.sh` compares Python's `deltalake` and DuckDB.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else { return ExitCode::FAILURE };
    let mut lake = support::open(std::path::Path::new(&folder)).await;
    lake.commit(support::mixed_unit(1)).await.expect("a commit to an empty folder");
    // More than 50 commits, so that readers start from our Delta checkpoint.
    for step in 0..60 {
        lake.commit(support::unit(0, step * 20..step * 20 + 20)).await.expect("a commit");
    }
    lake.fill_accounts().await.expect("the accounts");
    let events = (0..1200).map(|offset| (0, offset)).chain((0..10).filter(|o| !(3..7).contains(o)).map(|o| (1, o)));
    let (mut rows, mut tokens, mut cost, mut late) = (0, 0, 0, 0);
    for (partition, offset) in events {
        rows += 1;
        tokens += support::event(partition, offset).tokens.total();
        cost += support::cost(offset).map_or(0, |cost| cost.amount.0);
        late += u64::from(offset % 100 == 99);
    }
    let expected = serde_json::json!({
        "rows": rows, "total_tokens": tokens, "cost": usage_types::Pico(cost).to_string(), "late": late,
        "rejected": 1, "too_late": 1, "accounts": 61, "namespaces": ["ns-0", "ns-1", "ns-2"],
    });
    writeln!(std::io::stdout(), "{expected}").map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
