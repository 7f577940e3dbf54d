//! The names of a native event's members.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use usage_types::Dimension;

/// The members that are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Member {
    Dimension(Dimension),
    Id,
    Source,
    Time,
    Tokens,
    Usage,
    UsageFormat,
    Requests,
    ToolCalls,
    Images,
    ComputeSeconds,
    Cost,
    Tags,
    Corrects,
    Correction,
    Backfill,
    Adjusts,
    Processed,
    Total,
    SpecVersion,
    Other,
}

impl Member {
    /// By bytes, not by `str`: the compiler makes a decision tree of it, and this runs twenty times for each event.
    pub(crate) const fn of(name: &[u8]) -> Self {
        match name {
            b"namespace" => Self::Dimension(Dimension::Namespace),
            b"team" => Self::Dimension(Dimension::Team),
            b"repository" => Self::Dimension(Dimension::Repository),
            b"user" => Self::Dimension(Dimension::User),
            b"api_key" => Self::Dimension(Dimension::ApiKey),
            b"agent" => Self::Dimension(Dimension::Agent),
            b"session" => Self::Dimension(Dimension::Session),
            b"task" => Self::Dimension(Dimension::Task),
            b"job" => Self::Dimension(Dimension::Job),
            b"provider" => Self::Dimension(Dimension::Provider),
            b"model" => Self::Dimension(Dimension::Model),
            b"operation" => Self::Dimension(Dimension::Operation),
            b"service_tier" => Self::Dimension(Dimension::ServiceTier),
            b"id" => Self::Id,
            b"source" => Self::Source,
            b"time" => Self::Time,
            b"tokens" => Self::Tokens,
            b"usage" => Self::Usage,
            b"usage_format" => Self::UsageFormat,
            b"requests" => Self::Requests,
            b"tool_calls" => Self::ToolCalls,
            b"images" => Self::Images,
            b"compute_seconds" => Self::ComputeSeconds,
            b"cost" => Self::Cost,
            b"tags" => Self::Tags,
            b"corrects" => Self::Corrects,
            b"correction" => Self::Correction,
            b"backfill" => Self::Backfill,
            b"adjusts" => Self::Adjusts,
            b"processed" => Self::Processed,
            b"total" => Self::Total,
            b"specversion" => Self::SpecVersion,
            _ => Self::Other,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dimension(dimension) => dimension.name(),
            Self::Id => "id",
            Self::Source => "source",
            Self::Time => "time",
            Self::Tokens => "tokens",
            Self::Usage => "usage",
            Self::UsageFormat => "usage_format",
            Self::Requests => "requests",
            Self::ToolCalls => "tool_calls",
            Self::Images => "images",
            Self::ComputeSeconds => "compute_seconds",
            Self::Cost => "cost",
            Self::Tags => "tags",
            Self::Corrects => "corrects",
            Self::Correction => "correction",
            Self::Backfill => "backfill",
            Self::Adjusts => "adjusts",
            Self::Processed => "processed",
            Self::Total => "total",
            Self::SpecVersion => "specversion",
            Self::Other => "",
        }
    }

    /// Its place in the set of members that were seen: the dimensions first, the rest from 32.
    pub(super) const fn bit(self) -> u64 {
        1 << match self {
            Self::Dimension(dimension) => dimension as u32,
            Self::Id => 32,
            Self::Source => 33,
            Self::Time => 34,
            Self::Tokens => 35,
            Self::Requests => 36,
            Self::ToolCalls => 37,
            Self::Images => 38,
            Self::ComputeSeconds => 39,
            Self::Cost => 40,
            Self::Tags => 41,
            Self::Corrects => 42,
            Self::Correction => 43,
            Self::Backfill => 44,
            Self::Adjusts => 45,
            Self::SpecVersion => 46,
            Self::Usage => 47,
            Self::UsageFormat => 48,
            Self::Processed => 49,
            Self::Total => 50,
            Self::Other => 51,
        }
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Member;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Member, E> {
                Ok(Member::of(name.as_bytes()))
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dimension_is_a_member() {
        for dimension in Dimension::ALL {
            let member = Member::of(dimension.name().as_bytes());
            assert!(matches!(member, Member::Dimension(read) if read == dimension), "{dimension}");
            assert_eq!(member.name(), dimension.name());
        }
    }
}
