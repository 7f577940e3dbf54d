//! A producer with a thread that takes its delivery reports.
//!
//! Why not rdkafka's `ThreadedProducer`, which is the same: it polls for 100 ms at a time, and rdkafka rounds what is left of a wait down to
//! whole milliseconds, so the last of them is spent in asking again and again. That is a hundredth of a processor for each producer, also
//! while nothing happens; a server has three.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, ProducerContext};

/// How long one poll lasts; reports are taken as they come. A little more than whole milliseconds, which are what is waited for: what is left
/// then, and would be spent in asking, is nearly nothing.
const POLL: Duration = Duration::from_micros(100_050);

/// Ends its thread when dropped, and with it what is still queued.
pub(crate) struct PolledProducer<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    is_dropped: Arc<AtomicBool>,
    polling: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> PolledProducer<C> {
    pub(crate) fn open(config: &ClientConfig, context: C) -> KafkaResult<Self> {
        let producer: Arc<BaseProducer<C>> = Arc::new(config.create_with_context(context)?);
        let is_dropped = Arc::new(AtomicBool::new(false));
        let (polled, ends) = (Arc::clone(&producer), Arc::clone(&is_dropped));
        let poll = move || {
            while !ends.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        };
        let thread = thread::Builder::new().name("delivery reports".to_owned()).spawn(poll);
        let polling = thread.map_err(|error| KafkaError::ClientCreation(format!("cannot start a thread: {error}")))?;
        Ok(Self { producer, is_dropped, polling: Some(polling) })
    }
}

impl<C: ProducerContext + 'static> Deref for PolledProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for PolledProducer<C> {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Relaxed);
        // The client is gone with the thread: whoever stops a broker next is not told that it is away. A panic there was told by the thread itself.
        let _ = self.polling.take().map(JoinHandle::join);
    }
}
