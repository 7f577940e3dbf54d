//! Writes the mail of a made-up alert as HTML to standard output, to look at it in a browser: `show_mail [hard|soft] [USED]`.

use std::io::Write;

use alert_mail::Content;
use usage_types::{Alert, Dimension, Every, Ppm, Scope, TimeUs, Window, WindowSpec, alert_id};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_else(|| "hard".to_owned());
    let used = arguments.next().unwrap_or_else(|| "812345".to_owned());
    let exhausted = used.parse::<u64>()? >= 1_000_000;
    let start = TimeUs::parse_rfc3339("2026-11-20T23:00:00Z")?;
    let scope = Scope::new([(Dimension::Namespace, "support"), (Dimension::Team, "helpdesk")]);
    let threshold = if exhausted { Ppm::ONE } else { Ppm(800_000) };
    let alert = Alert {
        id: alert_id("support-daily", &scope, WindowSpec::calendar(Every::Day, chrono_tz::UTC), start, threshold),
        budget: "support-daily".to_owned(),
        scope,
        window: Window { start, end: start.plus_us(TimeUs::DAY), zone: chrono_tz::Europe::Berlin },
        every: "day".to_owned(),
        window_name: None,
        threshold: threshold.to_string(),
        measure: "tokens".to_owned(),
        currency: None,
        limit: "1000000".to_owned(),
        used,
        burn_per_hour: "58024".to_owned(),
        exhausted_at: (!exhausted).then(|| start.plus_us(17 * TimeUs::HOUR + 14 * TimeUs::MINUTE)),
        mode,
        raised_at: start.plus_us(14 * TimeUs::HOUR),
        to: Vec::new(),
        overage: None,
        progress: None,
        predicted: None,
    };
    std::io::stdout().write_all(Content::of(&alert).html.as_bytes())?;
    Ok(())
}
