//! Serves a log until it is killed: `local-log LISTEN DIR`. For client tests and crash tests.

use local_log::{LocalLog, LocalLogConfig};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut args = std::env::args().skip(1);
    let (Some(listen), Some(dir)) = (args.next(), args.next()) else {
        return Err("usage: local-log LISTEN DIR".into());
    };
    let mut config = LocalLogConfig::new(dir);
    config.listen = listen.parse()?;
    let log = LocalLog::start(config).await?;
    #[allow(clippy::print_stdout)]
    {
        // The one line that a test waits for; it carries the port when any was asked for.
        println!("listening on {}", log.addr());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    log.shutdown().await?;
    Ok(())
}
