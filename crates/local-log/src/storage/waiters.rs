//! Wakes long polls when a partition grows.
//!
//! A waiter is entered with every partition of its fetch before it reads, so no append can fall between the reading and the waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::partition::PartitionLog;

#[derive(Default)]
pub(crate) struct Waiters {
    next_id: AtomicU64,
    waiting: Mutex<HashMap<u64, Arc<Notify>>>,
}

impl Waiters {
    pub fn wake_all(&self) {
        for waiter in self.waiting.lock().values() {
            // Stores a permit when the fetch is not waiting right now, so the wake-up cannot be missed.
            waiter.notify_one();
        }
    }
}

/// A fetch's place in the lists of its partitions; leaving is dropping.
pub(crate) struct Waiting {
    notify: Arc<Notify>,
    entered: Vec<(Arc<PartitionLog>, u64)>,
}

impl Waiting {
    pub fn enter<'a>(partitions: impl Iterator<Item = &'a Arc<PartitionLog>>) -> Self {
        let notify = Arc::new(Notify::new());
        let entered = partitions
            .map(|partition| {
                let waiters = partition.waiters();
                let id = waiters.next_id.fetch_add(1, Ordering::Relaxed);
                waiters.waiting.lock().insert(id, Arc::clone(&notify));
                (Arc::clone(partition), id)
            })
            .collect();
        Self { notify, entered }
    }

    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for (partition, id) in &self.entered {
            partition.waiters().waiting.lock().remove(id);
        }
    }
}
