//! The replay: publishes the trace's requests with their own timing sped up, and shows what happens meanwhile.

use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use event_log::{LogConfig, Publisher, topics};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use usage_types::{Decision, TimeUs, canonical_key};

use super::{show, trace};
use crate::client::Server;
use crate::worker::Running;

/// How often the picture is drawn on a terminal, and how often a line is printed elsewhere.
const DRAW: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long the last events may take to be counted.
const SETTLE: Duration = Duration::from_secs(120);

/// Publishes everything, and returns when all of it is counted.
pub fn run(running: &Running, server: &Server, end: TimeUs, seconds: u64) -> Result<()> {
    let rows = trace::rows();
    let publisher = Publisher::open(&LogConfig::new(running.addresses.log.clone(), "outlay-demo"))?;
    let mut screen = Screen::new(running, rows.len() as u64)?;
    let begun = Instant::now();
    let duration_us = u64::try_from(trace::duration_us())?.max(1);
    for (sent, row) in rows.iter().enumerate() {
        let due = Duration::from_micros(u64::try_from(row.offset_us)? * seconds * 1000 / (duration_us / 1000));
        while let Some(left) = due.checked_sub(begun.elapsed()) {
            screen.draw(server, sent as u64)?;
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
        let event = trace::event_for(row, end);
        let key = canonical_key(&event);
        let json = trace::to_json(&event);
        publisher.publish(topics::USAGE_EVENTS, key.as_bytes(), Some(json.as_bytes()), &[], None)?;
    }
    publisher.flush(SETTLE).context("the embedded log did not take every event")?;
    let deadline = Instant::now() + SETTLE;
    loop {
        let counted = running.shared.counted.lock().seen.accepted;
        screen.draw(server, counted)?;
        if counted >= rows.len() as u64 && screen.mails_settled() {
            break;
        }
        if Instant::now() > deadline {
            bail!("only {counted} of {} events were counted in time", rows.len());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    screen.finish(server)
}

/// What is shown while the replay runs.
struct Screen<'r> {
    running: &'r Running,
    decisions: tokio::sync::broadcast::Receiver<Arc<Decision>>,
    mails: HashSet<String>,
    bars: MultiProgress,
    events: ProgressBar,
    budgets: Vec<(String, ProgressBar)>,
    drawn: Option<Instant>,
    is_terminal: bool,
}

impl<'r> Screen<'r> {
    fn new(running: &'r Running, events: u64) -> Result<Self> {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let style = ProgressStyle::with_template("  {bar:30} {pos}/{len} events  {msg}")?;
        let events = bars.add(ProgressBar::new(events).with_style(style));
        Ok(Self {
            running,
            decisions: running.shared.decisions.subscribe(),
            mails: HashSet::new(),
            bars,
            events,
            budgets: Vec::new(),
            drawn: None,
            is_terminal,
        })
    }

    /// Says what happened, and draws the bars when it is time.
    fn draw(&mut self, server: &Server, position: u64) -> Result<()> {
        self.news();
        let every = if self.is_terminal { DRAW.0 } else { DRAW.1 };
        if self.drawn.is_some_and(|at| at.elapsed() < every) {
            return Ok(());
        }
        self.drawn = Some(Instant::now());
        let status = show::status(server)?;
        self.events.set_position(position);
        self.events.set_message(format!("{} events/s", status.events_per_second));
        for balance in status.balances {
            let name = format!("{} ({})", balance.budget, balance.scope);
            let at = match self.budgets.iter().position(|(known, _)| *known == name) {
                Some(at) => at,
                None => {
                    let style = ProgressStyle::with_template("  {bar:30} {percent:>3} %  {prefix}  {msg}")?
                        .progress_chars("█▌░");
                    let bar = self.bars.add(ProgressBar::new(1_000_000).with_style(style).with_prefix(name.clone()));
                    self.budgets.push((name.clone(), bar));
                    self.budgets.len() - 1
                }
            };
            let bar = &self.budgets[at].1;
            bar.set_position(balance.used_ppm.min(1_000_000));
            bar.set_message(format!(
                "{} of {} {}{}",
                balance.used,
                balance.limit,
                balance.unit,
                if balance.blocked { "  BLOCKED" } else { "" }
            ));
            if !self.is_terminal {
                let percent = balance.used_ppm / 10_000;
                eprintln!("    {percent:>3} %  {name}  {}", bar.message());
            }
        }
        if !self.is_terminal {
            eprintln!("  {position} events, {} events/s", status.events_per_second);
        }
        Ok(())
    }

    /// New decisions and new mails, a line each.
    fn news(&mut self) {
        while let Ok(decision) = self.decisions.try_recv() {
            let what = match decision.outcome() {
                "blocked" => "BLOCKED".to_owned(),
                outcome => outcome.replace('_', " "),
            };
            self.say(&format!(
                "{what} {} by {}: {} ({} of {} {}), HTTP {}, until {}",
                decision.scope,
                decision.budget,
                decision.reason_code,
                decision.used,
                decision.limit,
                decision.measure,
                decision.http_status,
                decision.expires_at
            ));
        }
        for mail in self.running.shared.mail.list(50).iter().rev() {
            let Some(path) = &mail.eml else { continue };
            if self.mails.insert(mail.about.id().into_owned()) {
                self.say(&format!("mail: {}  ({})", mail.subject, path.display()));
            }
        }
    }

    fn say(&self, line: &str) {
        if self.is_terminal {
            // The terminal went away: nobody reads it.
            let _gone = self.bars.println(format!("  {line}"));
        } else {
            eprintln!("  {line}");
        }
    }

    /// Whether every alert is mailed.
    fn mails_settled(&self) -> bool {
        let counts = self.running.shared.mail.outbox().counts();
        counts.pending == 0 && counts.sent + counts.failed >= self.running.shared.alerts().len()
    }

    fn finish(&mut self, server: &Server) -> Result<()> {
        self.drawn = None;
        self.draw(server, self.events.length().unwrap_or(0))?;
        self.events.abandon();
        self.budgets.iter().for_each(|(_, bar)| bar.abandon());
        Ok(())
    }
}
