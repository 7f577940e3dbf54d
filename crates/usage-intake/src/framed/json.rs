//! What both encodings write of their values as JSON.

use serde_json::value::RawValue;
use usage_types::{RejectCode, TimeUs};

use crate::encode::Json;
use crate::field::Fault;
use crate::time::{AFTER_LATEST, EARLIEST};

/// A provider's usage object, which comes as JSON text, as the object that it is.
pub(super) fn usage(json: &mut Json, text: &str) -> Result<(), Fault> {
    // Read whole: a text that ended the object would otherwise go on with members of the event.
    let usage: &RawValue = serde_json::from_str(text).map_err(|error| {
        let message = format!("not JSON: {error}; send the provider's usage object as JSON text");
        (RejectCode::NotJson, message)
    })?;
    json.raw(usage.get());
    Ok(())
}

/// A time in microseconds since 1970; `None` where it does not even fit.
pub(super) fn time(json: &mut Json, micros: Option<i64>) -> Result<(), Fault> {
    match micros.map(TimeUs) {
        Some(time) if (EARLIEST..AFTER_LATEST).contains(&time) => {
            json.quoted_value(&time);
            Ok(())
        }
        _ => {
            let is = micros.map_or_else(|| "it".to_owned(), |micros| format!("{micros} µs since 1970"));
            let message = format!(
                "{is} is not between the years 2000 and 9999; send the time at which the usage happened, in the unit of the schema"
            );
            Err((RejectCode::BadTime, message))
        }
    }
}
