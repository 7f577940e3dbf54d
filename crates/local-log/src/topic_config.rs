//! Topic settings under Kafka's names: which are known, which take effect here, and their defaults.
//!
//! A setting that this log has no use for (replication, remote storage) is accepted, stored and returned, so that tools made
//! for a cluster work; an unknown name or a value that does not parse is refused.

use std::collections::BTreeMap;

/// Kafka's default of `message.max.bytes`: 1 MiB and the overhead of a batch.
pub(crate) const MAX_MESSAGE_BYTES_DEFAULT: usize = 1_048_588;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The settings that take effect, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TopicConfig {
    pub delete: bool,
    pub compact: bool,
    /// -1: without limit.
    pub retention_ms: i64,
    /// -1: without limit.
    pub retention_bytes: i64,
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub log_append_time: bool,
    pub max_message_bytes: usize,
    pub delete_retention_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text(&'static [&'static str]),
    /// Comma-separated.
    List(&'static [&'static str]),
    AnyList,
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Ratio,
}

/// A known setting: name, kind, default.
pub(crate) type Known = (&'static str, Kind, &'static str);

const LONG: Kind = Kind::Int { min: 0, max: i64::MAX };
const LONG_OR_NONE: Kind = Kind::Int { min: -1, max: i64::MAX };
const INT: Kind = Kind::Int { min: 0, max: i32::MAX as i64 };
const FOREVER: &str = "9223372036854775807";

/// Every topic setting of Kafka 4, and the older ones that tools still send.
pub(crate) const KNOWN: &[Known] = &[
    ("cleanup.policy", Kind::List(&["delete", "compact"]), "delete"),
    ("compression.type", Kind::Text(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), "producer"),
    ("compression.gzip.level", Kind::Int { min: -1, max: 9 }, "-1"),
    ("compression.lz4.level", Kind::Int { min: 1, max: 17 }, "9"),
    ("compression.zstd.level", Kind::Int { min: -131_072, max: 22 }, "3"),
    ("delete.retention.ms", LONG, "86400000"),
    ("file.delete.delay.ms", LONG, "60000"),
    ("flush.messages", Kind::Int { min: 1, max: i64::MAX }, FOREVER),
    ("flush.ms", LONG, FOREVER),
    ("follower.replication.throttled.replicas", Kind::AnyList, ""),
    ("index.interval.bytes", INT, "4096"),
    ("leader.replication.throttled.replicas", Kind::AnyList, ""),
    ("local.retention.bytes", Kind::Int { min: -2, max: i64::MAX }, "-2"),
    ("local.retention.ms", Kind::Int { min: -2, max: i64::MAX }, "-2"),
    ("max.compaction.lag.ms", Kind::Int { min: 1, max: i64::MAX }, FOREVER),
    ("max.message.bytes", INT, "1048588"),
    ("message.downconversion.enable", Kind::Bool, "true"),
    ("message.timestamp.after.max.ms", LONG, FOREVER),
    ("message.timestamp.before.max.ms", LONG, FOREVER),
    ("message.timestamp.difference.max.ms", LONG, FOREVER),
    ("message.timestamp.type", Kind::Text(&["CreateTime", "LogAppendTime"]), "CreateTime"),
    ("min.cleanable.dirty.ratio", Kind::Ratio, "0.5"),
    ("min.compaction.lag.ms", LONG, "0"),
    ("min.insync.replicas", Kind::Int { min: 1, max: i32::MAX as i64 }, "1"),
    ("preallocate", Kind::Bool, "false"),
    ("remote.copy.disable", Kind::Bool, "false"),
    ("remote.log.copy.disable", Kind::Bool, "false"),
    ("remote.log.delete.on.disable", Kind::Bool, "false"),
    ("remote.storage.enable", Kind::Bool, "false"),
    ("retention.bytes", LONG_OR_NONE, "-1"),
    ("retention.ms", LONG_OR_NONE, "604800000"),
    ("segment.bytes", Kind::Int { min: 14, max: i32::MAX as i64 }, "134217728"),
    ("segment.index.bytes", Kind::Int { min: 4, max: i32::MAX as i64 }, "10485760"),
    ("segment.jitter.ms", LONG, "0"),
    ("segment.ms", Kind::Int { min: 1, max: i64::MAX }, "604800000"),
    ("unclean.leader.election.enable", Kind::Bool, "false"),
];

pub(crate) fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.0 == name)
}

/// Checks one setting; the error says what is wrong with it.
pub(crate) fn validate(name: &str, value: &str) -> Result<(), String> {
    let Some((_, kind, _)) = known(name) else {
        return Err(format!("unknown topic setting {name}; see the Kafka documentation for the names"));
    };
    let fits = match kind {
        Kind::Text(allowed) => allowed.contains(&value),
        Kind::List(allowed) => !value.is_empty() && value.split(',').all(|item| allowed.contains(&item.trim())),
        Kind::AnyList => true,
        Kind::Bool => matches!(value, "true" | "false"),
        Kind::Int { min, max } => value.trim().parse::<i64>().is_ok_and(|number| (*min..=*max).contains(&number)),
        Kind::Ratio => value.trim().parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
    };
    if fits { Ok(()) } else { Err(format!("{value:?} is not a value of {name}")) }
}

impl TopicConfig {
    /// The effective settings, from those that were set (valid ones, see [`validate`]).
    pub fn new(set: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| {
            set.get(name).map_or_else(|| known(name).map_or("", |known| known.2), String::as_str).trim().to_owned()
        };
        let int = |name: &str, otherwise: i64| text(name).parse().unwrap_or(otherwise);
        let policy = text("cleanup.policy");
        Self {
            delete: policy.contains("delete"),
            compact: policy.contains("compact"),
            retention_ms: int("retention.ms", 7 * DAY_MS),
            retention_bytes: int("retention.bytes", -1),
            segment_bytes: int("segment.bytes", 128 << 20).unsigned_abs(),
            segment_ms: int("segment.ms", 7 * DAY_MS),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            max_message_bytes: usize::try_from(int("max.message.bytes", 0)).unwrap_or(MAX_MESSAGE_BYTES_DEFAULT),
            delete_retention_ms: int("delete.retention.ms", DAY_MS),
            min_compaction_lag_ms: int("min.compaction.lag.ms", 0),
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
        }
    }
}
