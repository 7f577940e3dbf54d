//! Background upkeep of all partitions: retention, new segments by age, compaction.

use std::sync::Arc;

use tokio::sync::watch;

use super::partition::PartitionLog;
use crate::broker::Broker;

/// Looks after all partitions, one after the other, until `stop` turns true.
pub(crate) async fn maintain(broker: Arc<Broker>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(broker.config.maintenance_interval) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let mut partitions: Vec<Arc<PartitionLog>> = vec![Arc::clone(&broker.groups.offsets.log)];
        partitions.extend(broker.topics.all().iter().flat_map(|topic| topic.partitions()));
        for partition in partitions {
            if *stop.borrow() {
                return;
            }
            let work = move || maintain_one(&partition);
            if let Err(error) = tokio::task::spawn_blocking(work).await {
                tracing::error!(%error, "upkeep of a partition failed");
            }
        }
    }
}

/// What fails is tried again at the next turn; nothing is lost by waiting.
fn maintain_one(partition: &PartitionLog) {
    let done = partition.apply_retention().and_then(|()| partition.compact());
    match done {
        // The files of a deleted topic vanish under the work.
        Err(error) if !partition.is_closed() => {
            tracing::error!(partition = %partition.label, %error, "local log could not remove or compact old segments");
        }
        _ => {}
    }
}
