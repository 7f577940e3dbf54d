//! One usage event: who, when, what was used, and what it cost.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ComputeNs, Currency, Dimensions, Pico, Progress, TimeUs};

macro_rules! token_classes {
    ($($variant:ident $field:ident $name:literal $column:literal $doc:literal;)*) => {
        /// A token class. The classes are disjoint: every token is in exactly one, so they add up.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum TokenClass { $(#[doc = $doc] $variant,)* }

        impl TokenClass {
            /// All of them, in the order of the lake's columns.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = [$($name,)*].len();

            /// The name in the event's `tokens` object.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it holds, in a sentence.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            /// The column in the lake and in SQL, and the name of a limit.
            #[must_use]
            pub const fn column(self) -> &'static str {
                match self { $(Self::$variant => $column,)* }
            }
        }

        impl FromStr for TokenClass {
            type Err = String;
            /// Takes the event's name (`output`) and the column's (`output_tokens`).
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name | $column => Ok(Self::$variant),)*
                    _ => Err(format!("`{text}` is no token class; use one of {}", [$($name,)*].join(", "))),
                }
            }
        }

        /// Tokens by class, each in tokens. In JSON an object of the classes; a class left out is 0.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Tokens { $(#[doc = $doc] pub $field: u64,)* }

        impl Tokens {
            /// The count of one class.
            #[must_use]
            #[inline]
            pub const fn get(&self, class: TokenClass) -> u64 {
                match class { $(TokenClass::$variant => self.$field,)* }
            }

            /// The count of one class, to change it.
            #[inline]
            pub const fn get_mut(&mut self, class: TokenClass) -> &mut u64 {
                match class { $(TokenClass::$variant => &mut self.$field,)* }
            }
        }
    };
}

token_classes! {
    Input input "input" "input_tokens" "Input that no cache held.";
    CacheRead cache_read "cache_read" "cache_read_tokens" "Input read from the provider's prompt cache.";
    CacheWrite5m cache_write_5m "cache_write_5m" "cache_write_5m_tokens" "Input written to the cache for five minutes.";
    CacheWrite1h cache_write_1h "cache_write_1h" "cache_write_1h_tokens" "Input written to the cache for one hour.";
    Output output "output" "output_tokens" "Visible output.";
    Reasoning reasoning "reasoning" "reasoning_tokens" "Output spent on reasoning.";
}

impl Tokens {
    /// All classes together. Cannot overflow: intake bounds each class by [`UsageEvent::COUNT_MAX`].
    #[must_use]
    #[inline]
    pub fn total(&self) -> u64 {
        TokenClass::ALL.iter().fold(0, |sum: u64, class| sum.saturating_add(self.get(*class)))
    }
}

/// Who set a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostOrigin {
    /// The sender knew it and said so in the event.
    Event,
    /// Our price book.
    PriceBook,
}

/// What an event cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// How much, in pico-units of the currency.
    pub amount: Pico,
    /// Of which currency.
    pub currency: Currency,
    /// Who says so.
    pub origin: CostOrigin,
}

/// What an event is in the books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Role<'a> {
    /// Usage as it happens.
    #[default]
    Usage,
    /// Usage of the past, taken in afterwards: it is never too late, and a duplicate is told by the ids in the lake.
    Backfill,
    /// Replaces the event of this id (of the same source): that one is reversed, and this one counts at that one's time.
    Amends(Cow<'a, str>),
    /// Takes the event of this id (of the same source) back.
    Voids(Cow<'a, str>),
    /// Changes the cost of a window by an amount that may be negative, on behalf of this run, like a repricing.
    Adjusts(Cow<'a, str>),
}

impl Role<'_> {
    /// The same, owning its text.
    #[must_use]
    pub fn into_owned(self) -> Role<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Usage => Role::Usage,
            Self::Backfill => Role::Backfill,
            Self::Amends(id) => Role::Amends(own(id)),
            Self::Voids(id) => Role::Voids(own(id)),
            Self::Adjusts(run) => Role::Adjusts(own(run)),
        }
    }
}

/// One validated usage event, borrowing its texts from the record it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageEvent<'a> {
    /// Identifies the event within its source; `None` until intake gives it one of topic, partition and offset.
    pub id: Option<Cow<'a, str>>,
    /// Who emitted it. Empty where it names none.
    pub source: Cow<'a, str>,
    /// When the usage happened, by the sender's clock.
    pub time: TimeUs,
    /// Who and what; the namespace is always there.
    pub dimensions: Dimensions<'a>,
    /// Tokens by class.
    pub tokens: Tokens,
    /// Requests to a model; 1 where the event does not say.
    pub requests: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Images that a model made.
    pub images: u64,
    /// Compute time.
    pub compute: ComputeNs,
    /// The cost that the sender gave. It goes before the price book. Negative only where the event adjusts.
    pub cost: Option<(Pico, Currency)>,
    /// Free labels.
    pub tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Whether it is new usage, or restates what was counted.
    pub role: Role<'a>,
    /// How far its job has come with it. Counts towards nothing.
    pub progress: Option<Progress>,
}

impl UsageEvent<'_> {
    /// The largest count of anything in one event: 2⁴⁸. A trillion times more than a request uses, and small enough that
    /// 2¹⁵ of them still fit the lake's signed 64-bit columns.
    pub const COUNT_MAX: u64 = 1 << 48;
    /// The longest id, source or dimension value, in bytes.
    pub const TEXT_BYTES_MAX: usize = 1024;
    /// The most tags.
    pub const TAGS_MAX: usize = 64;
    /// The tag that names the reservation which the event settles.
    pub const RESERVATION_TAG: &'static str = "outlay.reservation";

    /// The same, owning its texts.
    #[must_use]
    pub fn into_owned(self) -> UsageEvent<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        UsageEvent {
            id: self.id.map(own),
            source: own(self.source),
            time: self.time,
            dimensions: self.dimensions.into_owned(),
            tokens: self.tokens,
            requests: self.requests,
            tool_calls: self.tool_calls,
            images: self.images,
            compute: self.compute,
            cost: self.cost,
            tags: self.tags.into_iter().map(|(name, value)| (own(name), own(value))).collect(),
            role: self.role.into_owned(),
            progress: self.progress,
        }
    }
}

/// Where an event stands in the log, and when the log took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPosition {
    /// The partition of `usage.events`.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The log's append time: the one clock that all of a partition's records share.
    pub append_time: TimeUs,
}
