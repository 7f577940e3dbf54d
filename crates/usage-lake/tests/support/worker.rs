//! The child that the tests' queries run in: what `outlay query-worker` does.

use std::process::ExitCode;

fn main() -> ExitCode {
    usage_lake::query_worker::main()
}
