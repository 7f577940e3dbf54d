//! When the fill of a moving window crossed a threshold: so that each crossing is told once.
//!
//! A window of the calendar tells a threshold once, because the next window is another one. A moving window has no next one, so a threshold is told
//! again only after the fill had fallen below it, and not before the window's length (of a lifetime its idle time) has passed
//! since it was last told: a fill that wavers about a threshold is not a mail a minute.
//!
//! That the fill fell below is not watched: each look notes when it would if nothing more came. After a restart the log tells when
//! a threshold was told last; a fill that stands above it then is taken for the same crossing.

use std::collections::HashMap;

use usage_types::{Alert, Bounds, Scope, TimeUs, WindowSpec};

/// By [`crossing_key`].
#[derive(Debug, Default)]
pub(crate) struct Crossings {
    by_key: HashMap<String, Crossing>,
    /// Some come from the log and have not been looked at.
    unsettled: bool,
}

#[derive(Debug)]
struct Crossing {
    /// The start of the window that it was told of: of one lifetime a threshold is told once.
    of: TimeUs,
    told_at: TimeUs,
    /// From when on it may be told again.
    again_from: TimeUs,
    /// When the fill falls below, if nothing more comes; `None` where it comes from the log and has not been looked at.
    above_until: Option<TimeUs>,
}

impl Crossing {
    /// Whether a window that starts then is another one than it was told of. Late events may move the start of a lifetime back, and the end
    /// of what counts moves it on: one that starts before the threshold was told is the same lifetime.
    fn is_before(&self, start: TimeUs, spec: WindowSpec) -> bool {
        let is_lifetime = matches!(spec.bounds, Bounds::Lifetime { .. });
        self.of < start && (!is_lifetime || self.told_at < start)
    }
}

/// Budget, scope, kind of window and threshold: the alert's id without its window.
pub(crate) fn crossing_key(budget: &str, scope: &Scope, window: &str, threshold: &str) -> String {
    format!("{budget}|{scope}|{window}|{threshold}")
}

impl Crossings {
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Takes an alert that the log holds.
    pub(crate) fn load(&mut self, alert: &Alert) {
        // An id is `budget|scope|kind|start|threshold`, none of which holds a bar.
        let parts: Vec<&str> = alert.id.split('|').collect();
        let [_, _, kind, _, threshold] = parts.as_slice() else { return };
        let key = crossing_key(&alert.budget, &alert.scope, kind, threshold);
        if self.by_key.get(&key).is_none_or(|known| known.told_at < alert.raised_at) {
            let told = Crossing {
                of: alert.window.start,
                told_at: alert.raised_at,
                again_from: alert.raised_at,
                above_until: None,
            };
            self.by_key.insert(key, told);
            self.unsettled = true;
        }
    }

    /// Takes note of a look at a fill that is above the threshold until some time, or `None` where it is below. Whether to tell it.
    pub(crate) fn judge(
        &mut self,
        key: &str,
        above_until: Option<TimeUs>,
        spec: WindowSpec,
        of: TimeUs,
        now: TimeUs,
    ) -> bool {
        let told =
            |until| Crossing { of, told_at: now, again_from: now.plus_us(pause_us(spec)), above_until: Some(until) };
        let Some(known) = self.by_key.get_mut(key) else {
            return above_until.map(|until| self.by_key.insert(key.to_owned(), told(until))).is_some();
        };
        known.again_from = known.told_at.plus_us(pause_us(spec));
        let fell = known.above_until.is_some_and(|until| until <= now);
        match above_until {
            None if !fell => known.above_until = Some(now),
            Some(until) if fell && now >= known.again_from && known.is_before(of, spec) => {
                *known = told(until);
                return true;
            }
            Some(until) if !fell => known.above_until = Some(until),
            // Fallen and risen too soon, or in the same lifetime: a later look may tell it.
            _ => {}
        }
        false
    }

    /// Whether anything is known of a threshold: of one that has not been crossed since the last look nothing need be noted while it is not reached.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// What came from the log and was not looked at is of scopes that have used nothing since.
    pub(crate) fn settle(&mut self, now: TimeUs) {
        if std::mem::take(&mut self.unsettled) {
            self.by_key.values_mut().for_each(|known| _ = known.above_until.get_or_insert(now));
        }
    }

    /// Drops what fell below before the floor and may be told again by then.
    pub(crate) fn forget(&mut self, floor: TimeUs) {
        self.by_key.retain(|_, known| known.again_from > floor || known.above_until.is_none_or(|until| until > floor));
    }
}

/// How long a threshold is not told again.
fn pause_us(spec: WindowSpec) -> i64 {
    match spec.bounds {
        Bounds::Calendar { .. } => 0,
        Bounds::Rolling(span) | Bounds::Lifetime { idle: span, .. } => span.us(),
    }
}
