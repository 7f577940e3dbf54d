//! Every accepted wire format to a usage event: pure functions from bytes to [`usage_types::UsageEvent`] or
//! [`usage_types::Rejection`].
//!
//! One module reads one format and ends in the same validated event, so that nothing after intake knows how an event came:
//! `native` the contract's own JSON (with `provider_usage` for the usage objects in it), `cloudevents` the envelopes around it, `mapped`
//! CloudEvents of others, `framed` what a schema registry's serializers write, `http` the bodies of `POST /v1/events`, `litellm` those of its
//! callback, `table` rows of CSV and Parquet files. Another format is another sibling with an entrance of its own in
//! [`Intake`]; what it reads is written as native JSON by [`encode`], so that the log holds formats that need no configuration.
//!
//! Holds here: no input panics; every refusal names a code, the field's path and what to write instead; what the HTTP entrance
//! accepts, [`Intake::decode_record`] accepts again when it comes back from the log, as the same event.
//! Deliberately absent: I/O, clocks (a time in the future is the core's business, which knows the log's time), prices, and
//! made-up ids (whoever knows topic, partition and offset fills them in).

mod cloudevents;
mod config;
mod dead_letter;
mod encode;
mod field;
mod foreign;
mod framed;
mod headers;
mod http;
mod intake;
mod litellm;
mod mapped;
mod native;
mod provider_usage;
mod table;
mod time;

pub use config::{
    CloudEventMap, DataPath, DataSource, FileError, IntakeConfig, LiteLlmMap, MappedCost, MappedMeasure, OtlpMap,
};
pub use dead_letter::{DeadLetter, DeadLetterHeader, RecordParts};
pub use encode::encode;
pub use field::{COMPUTE_MAX, COST_MAX};
pub use framed::{Encoding, WriterSchema, schema_id};
pub use headers::Headers;
pub use http::Item;
pub use intake::{Intake, IntakeLimits};
pub use table::{TableColumns, TableRow};

pub(crate) use intake::Site;
