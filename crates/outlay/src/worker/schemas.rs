//! Which schema an id stands for, and the partitions that wait until that is known.
//!
//! What holds: a record whose schema is not known yet is kept back, and with it what follows in its partition, so that no order changes and no
//! offset is passed over; other partitions go on. Nothing here waits: the registry is asked by tasks of their own, which ask again until it
//! answers. What is kept back is in memory only, and at most what was fetched before the partition was paused; a restart reads it again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use event_log::Position;
use reqwest::Url;
use tokio::runtime::Handle;
use usage_intake::WriterSchema;

use super::Shared;
use super::record::{KeptRecord, Record};
use super::registry::{Answer, Registry};

/// For how long an id that the registry does not know is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// The wait before a registry that gave no answer is asked again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The schemas that were asked for. Belongs to the ingest thread.
pub struct Schemas {
    registry: Arc<Registry>,
    shared: Arc<Shared>,
    runtime: Handle,
    known: HashMap<u32, Known>,
    asked: HashSet<u32>,
    answers: (Sender<Answered>, Receiver<Answered>),
    held: BTreeMap<i32, Held>,
}

/// An id, and what the registry says of it.
type Answered = (u32, Answer);

struct Known {
    schema: WriterSchema,
    /// When to ask again; never for one that the registry knows.
    until: Option<Instant>,
}

/// The records of a partition from the first whose schema is not known.
#[derive(Default)]
struct Held {
    records: VecDeque<KeptRecord>,
    is_paused: bool,
}

/// What a partition was waiting with.
pub struct Released {
    /// The records, up to one whose schema is not known either.
    pub records: Vec<KeptRecord>,
    /// Where reading goes on, where that was all.
    pub next: Option<Position>,
}

impl Schemas {
    /// Those of the registry at this address.
    pub fn new(url: Url, shared: Arc<Shared>, runtime: Handle) -> anyhow::Result<Self> {
        Ok(Self {
            registry: Arc::new(Registry::new(url)?),
            shared,
            runtime,
            known: HashMap::new(),
            asked: HashSet::new(),
            answers: channel(),
            held: BTreeMap::new(),
        })
    }

    /// The schema of an id that was admitted.
    pub fn get(&self, id: u32) -> Option<&WriterSchema> {
        self.known.get(&id).map(|known| &known.schema)
    }

    /// Whether records of this partition wait.
    pub fn holds(&self, partition: i32) -> bool {
        self.held.contains_key(&partition)
    }

    /// The records that can be decoded now; the others are kept back.
    pub fn admit<'a>(&mut self, records: impl Iterator<Item = Record<'a>>) -> Vec<Record<'a>> {
        let mut admitted = Vec::with_capacity(records.size_hint().0);
        for record in records {
            let partition = record.position.partition;
            let is_held = !self.held.is_empty() && self.holds(partition);
            if !is_held && record.schema_id().is_none_or(|id| self.is_ready(id)) {
                admitted.push(record);
            } else {
                self.held.entry(partition).or_default().records.push_back(record.keep());
            }
        }
        admitted
    }

    /// Partitions that wait and are still read; the caller pauses them.
    pub fn take_unpaused(&mut self) -> Vec<i32> {
        let unpaused = self.held.iter_mut().filter(|(_, held)| !held.is_paused);
        let partitions: Vec<i32> = unpaused
            .map(|(partition, held)| {
                held.is_paused = true;
                *partition
            })
            .collect();
        if !partitions.is_empty() {
            self.show_held();
        }
        partitions
    }

    /// A partition whose first record waits no longer, with what can be decoded of it.
    pub fn release(&mut self) -> Option<Released> {
        for (id, Answer { schema, is_known }) in self.answers.1.try_iter() {
            self.asked.remove(&id);
            let until = (!is_known).then(|| Instant::now() + UNKNOWN_FOR);
            self.known.insert(id, Known { schema, until });
        }
        let partitions: Vec<i32> = self.held.keys().copied().collect();
        let (partition, mut held) = partitions.into_iter().find_map(|partition| {
            let first = Record::from(self.held[&partition].records.front()?).schema_id();
            first
                .is_none_or(|id| self.is_ready(id))
                .then(|| self.held.remove(&partition).map(|held| (partition, held)))?
        })?;
        let mut records = Vec::new();
        while let Some(record) =
            held.records.pop_front_if(|record| Record::from(&*record).schema_id().is_none_or(|id| self.is_ready(id)))
        {
            records.push(record);
        }
        let last = records.last().map(|record| record.position.offset);
        let next = last.filter(|_| held.records.is_empty()).map(|last| Position { partition, offset: last + 1 });
        if next.is_none() {
            self.held.insert(partition, held);
        }
        self.show_held();
        Some(Released { records, next })
    }

    /// Whether the schema is known. If not, it is asked for.
    fn is_ready(&mut self, id: u32) -> bool {
        if self.known.get(&id).is_some_and(|known| known.until.is_none_or(|until| Instant::now() < until)) {
            return true;
        }
        if self.asked.insert(id) {
            let (registry, shared, answers) =
                (Arc::clone(&self.registry), Arc::clone(&self.shared), self.answers.0.clone());
            self.runtime.spawn(async move {
                if let Some(answer) = fetch(&registry, &shared, id).await {
                    // The receiver is gone only when the worker stops.
                    let _stopped = answers.send((id, answer));
                }
            });
        }
        false
    }

    fn show_held(&self) {
        self.shared.metrics.partitions_held.set(i64::try_from(self.held.len()).unwrap_or(i64::MAX));
    }
}

/// Asks until there is an answer; `None` where the server stops before.
async fn fetch(registry: &Registry, shared: &Shared, id: u32) -> Option<Answer> {
    let mut wait = RETRY.0;
    while !shared.stopping.load(Ordering::Relaxed) {
        match registry.ask(id).await {
            Ok(answer) => {
                shared.metrics.count_schema(if answer.is_known { "found" } else { "unknown" });
                shared.note_schema(id, None);
                return Some(answer);
            }
            Err(error) => {
                let problem = format!("{error:#}");
                tracing::warn!(id, error = problem, "the schema registry did not give a schema; it is asked again");
                shared.metrics.count_schema("failed");
                shared.note_schema(id, Some(problem));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
    None
}
