//! The event that the tests price.

use std::borrow::Cow;

use usage_types::{ComputeNs, Dimension, Dimensions, Role, TimeUs, Tokens, UsageEvent};

/// An event of one request with these dimensions, as far as they are given, and tokens.
pub fn event<'a>(given: &[(Dimension, Option<&'a str>)], tokens: Tokens) -> UsageEvent<'a> {
    let mut dimensions = Dimensions::default();
    for (dimension, value) in given {
        dimensions.set(*dimension, value.map(Cow::Borrowed));
    }
    UsageEvent {
        id: None,
        source: Cow::Borrowed(""),
        time: TimeUs(0),
        dimensions,
        tokens,
        requests: 1,
        tool_calls: 0,
        images: 0,
        compute: ComputeNs(0),
        cost: None,
        tags: Default::default(),
        role: Role::Usage,
        progress: None,
    }
}
