//! The SQL function `tag(tags, 'name')`: the value of one of an event's tags, which the column `tags` has as a JSON object of texts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

/// The function; null where there is no such tag.
pub(super) fn function() -> ScalarUDF {
    let texts = vec![DataType::Utf8View, DataType::Utf8View];
    create_udf("tag", texts, DataType::Utf8View, Volatility::Immutable, Arc::new(evaluate))
}

fn evaluate(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let [objects, names] = arrays.as_slice() else {
        return datafusion::common::exec_err!("tag takes the column tags and the name of a tag");
    };
    let (objects, names) = (cast(objects, &DataType::Utf8View)?, cast(names, &DataType::Utf8View)?);
    let mut values = StringViewBuilder::with_capacity(objects.len());
    for (object, name) in objects.as_string_view().iter().zip(names.as_string_view()) {
        values.append_option(object.zip(name).and_then(|(object, name)| value(object, name)));
    }
    let values: ArrayRef = Arc::new(values.finish());
    Ok(ColumnarValue::Array(values))
}

/// Borrowed where nothing in it is escaped.
fn value<'a>(object: &'a str, name: &str) -> Option<Cow<'a, str>> {
    #[derive(serde::Deserialize, PartialEq, Eq, Hash)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let mut tags: HashMap<Text<'_>, Text<'a>> = serde_json::from_str(object).ok()?;
    tags.remove(&Text(Cow::Borrowed(name))).map(|text| text.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_by_its_whole_name_and_its_value_is_what_was_sent() {
        let tags = r#"{"pull_request":"17","a \"b\"":"x\\y\n\"z\"","variant":"A,\"variant\":\"B\""}"#;
        for (name, expected) in [
            ("pull_request", Some("17")),
            ("a \"b\"", Some("x\\y\n\"z\"")),
            ("variant", Some("A,\"variant\":\"B\"")),
            ("request", None),
            ("", None),
        ] {
            assert_eq!(value(tags, name).as_deref(), expected, "{name}");
        }
        assert_eq!(value("no object", "variant"), None);
    }
}
