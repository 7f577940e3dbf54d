//! Publishing what the core decided. Effects count as published when they are sent; what the log does not acknowledge is given back to the
//! core, which emits it again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use budget_core::Effects;
use event_log::{LogError, Publisher, topics};
use tokio::runtime::Handle;
use usage_types::{Alert, TimeUs};

use super::Shared;

/// A publisher of decisions and alerts, used by the ingest thread.
pub struct EffectsPublisher {
    publisher: Arc<Publisher>,
    runtime: Handle,
    failed: (Sender<Effects>, Receiver<Effects>),
}

impl EffectsPublisher {
    /// With a producer of its own, so that no event waits in front of a decision.
    ///
    /// # Errors
    /// The Kafka client refuses its settings.
    pub fn open(shared: &Shared, runtime: Handle) -> Result<Self, LogError> {
        Ok(Self { publisher: Arc::new(Publisher::open(&shared.log_config)?), runtime, failed: channel() })
    }

    /// Evaluates, and publishes the differences.
    pub fn turn(&mut self, shared: &Arc<Shared>, now: TimeUs) {
        let effects = {
            let mut counted = shared.counted.lock();
            while let Ok(failed) = self.failed.1.try_recv() {
                counted.core.retract(&failed);
            }
            counted.core.effects(now)
        };
        if effects.is_empty() {
            return;
        }
        shared.audit.note_decisions(&effects.decisions);
        for decision in effects.decisions {
            let state = decision.outcome();
            tracing::info!(budget = decision.budget, scope = %decision.scope, state, used = decision.used, limit = decision.limit,
                expires_at = %decision.expires_at, "decision");
            if let Some(rolled_back) = &decision.rolled_back {
                tracing::error!(
                    budget = decision.budget,
                    blocked = rolled_back.blocked,
                    scopes = rolled_back.scopes,
                    "the budget blocks too many scopes and goes on in shadow; change it to have it block again"
                );
            }
            shared.metrics.count_decision(state);
            let value = serde_json::to_vec(&decision).unwrap_or_default();
            let key = decision.key();
            // Receivers that lag behind take the full set again.
            let _nobody_follows = shared.decisions.send(Arc::new(decision.clone()));
            let effect = Effects { decisions: vec![decision], ..Effects::default() };
            self.send(topics::USAGE_DECISIONS, &key, Some(&value), effect);
        }
        for key in effects.tombstones {
            tracing::debug!(key, "a decision that is over is taken off the topic");
            let effect = Effects { tombstones: vec![key.clone()], ..Effects::default() };
            self.send(topics::USAGE_DECISIONS, &key, None, effect);
        }
        self.mail(shared, &effects.alerts);
        for alert in effects.alerts {
            tracing::info!(budget = alert.budget, scope = %alert.scope, threshold = alert.threshold, used = alert.used,
                limit = alert.limit, "alert");
            shared.metrics.alerts.inc();
            shared.remember_alert(&alert);
            let value = serde_json::to_vec(&alert).unwrap_or_default();
            let key = alert.id.clone();
            let effect = Effects { alerts: vec![alert], ..Effects::default() };
            self.send(topics::USAGE_ALERTS, &key, Some(&value), effect);
        }
    }

    /// Offers alerts to the outbox, on another thread: it waits for the disk, and decisions must not. What a crash keeps from it is on the topic,
    /// and offered again at the next start.
    fn mail(&self, shared: &Arc<Shared>, alerts: &[Alert]) {
        if alerts.is_empty() {
            return;
        }
        let (shared, alerts) = (Arc::clone(shared), alerts.to_vec());
        self.runtime.spawn_blocking(move || shared.mail.enqueue_all(&alerts));
    }

    /// Sends a value, or a tombstone.
    fn send(&self, topic: &'static str, key: &str, value: Option<&[u8]>, effect: Effects) {
        let failed = self.failed.0.clone();
        match self.publisher.send(topic, key.as_bytes(), value, &[], None) {
            Ok(handle) => {
                self.runtime.spawn(async move {
                    if let Err(error) = handle.await {
                        tracing::warn!(%error, topic, "not acknowledged; it is published again");
                        // The receiver is gone only when the worker stops: at the next start the topic is compared anyway.
                        let _stopped = failed.send(effect);
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, topic, "not published; it is tried again");
                let _stopped = failed.send(effect);
            }
        }
    }

    /// Waits for what is on its way.
    pub fn finish(&mut self, shared: &Shared) {
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while self.publisher.in_flight() > 0 && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Ok(failed) = self.failed.1.try_recv() {
            tracing::warn!(
                decisions = failed.decisions.len() + failed.tombstones.len(),
                alerts = failed.alerts.len(),
                "some were not acknowledged; the next start publishes them"
            );
            shared.counted.lock().core.retract(&failed);
        }
    }
}
