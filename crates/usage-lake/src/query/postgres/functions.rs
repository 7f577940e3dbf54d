//! The functions of PostgreSQL that tools call to find their way, and that DataFusion lacks. They tell of one role that may read and do nothing
//! else, in one database.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Int32Builder, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;

use super::catalog::FIRST_TABLE;
use super::{DATABASE, SCHEMA, text_of, types};

/// What `current_setting` and `pg_settings` tell.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_read_only", "on"),
    ("integer_datetimes", "on"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("search_path", "\"$user\", public"),
    ("server_encoding", "UTF8"),
    ("server_version", "16.0"),
    ("server_version_num", "160000"),
    ("standard_conforming_strings", "on"),
    ("timezone", "UTC"),
    ("transaction_isolation", "repeatable read"),
    ("transaction_read_only", "on"),
];

/// What a function gives for a row of its arguments.
enum Value {
    Null,
    Text(String),
    Number(i32),
    Truth(bool),
    Texts(Vec<String>),
}

type Body = Arc<dyn Fn(&[ScalarValue]) -> Value + Send + Sync>;

/// A function of any arguments that looks at a row of them at a time: the catalog is small.
struct Function {
    name: &'static str,
    returns: DataType,
    signature: Signature,
    body: Body,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

// There is one function of each name in a session.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let is_scalar = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let count = if is_scalar { 1 } else { rows };
        let mut values = Vec::with_capacity(count);
        for at in 0..count {
            let row = arguments.args.iter().map(|argument| match argument {
                ColumnarValue::Scalar(scalar) => Ok(scalar.clone()),
                ColumnarValue::Array(array) => ScalarValue::try_from_array(array, at),
            });
            values.push((self.body)(&row.collect::<Result<Vec<_>>>()?));
        }
        let array = column(&self.returns, values);
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        } else {
            ColumnarValue::Array(array)
        })
    }
}

fn column(kind: &DataType, values: Vec<Value>) -> ArrayRef {
    match kind {
        DataType::Int32 => {
            let mut out = Int32Builder::new();
            values
                .into_iter()
                .for_each(|value| out.append_option(if let Value::Number(value) = value { Some(value) } else { None }));
            Arc::new(out.finish())
        }
        DataType::Boolean => {
            let mut out = BooleanBuilder::new();
            values
                .into_iter()
                .for_each(|value| out.append_option(if let Value::Truth(value) = value { Some(value) } else { None }));
            Arc::new(out.finish())
        }
        DataType::List(_) => {
            let mut out = ListBuilder::new(StringBuilder::new());
            for value in values {
                let is_there = matches!(value, Value::Texts(_));
                if let Value::Texts(texts) = value {
                    texts.iter().for_each(|text| out.values().append_value(text));
                }
                out.append(is_there);
            }
            Arc::new(out.finish())
        }
        DataType::Struct(_) => arrow::array::new_null_array(kind, values.len()),
        _ => {
            let mut out = StringBuilder::new();
            values
                .into_iter()
                .for_each(|value| out.append_option(if let Value::Text(value) = value { Some(value) } else { None }));
            Arc::new(out.finish())
        }
    }
}

fn texts() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

fn text(arguments: &[ScalarValue], at: usize) -> Option<String> {
    arguments.get(at).and_then(text_of)
}

fn number(arguments: &[ScalarValue], at: usize) -> Option<i64> {
    text(arguments, at)?.parse().ok()
}

/// Functions that always tell null, in texts.
const NULL_TEXTS: &[&str] = &[
    "pg_get_expr",
    "pg_get_constraintdef",
    "pg_get_indexdef",
    "pg_get_partkeydef",
    "pg_get_ruledef",
    "pg_get_triggerdef",
    "pg_get_functiondef",
    "pg_get_function_result",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_serial_sequence",
    "pg_get_statisticsobjdef_columns",
    "obj_description",
    "col_description",
    "shobj_description",
    "pg_tablespace_location",
    "inet_server_addr",
    "inet_client_addr",
    "pg_get_partition_constraintdef",
];

/// Functions that ask whether something is seen, which all is.
const VISIBLE: &[&str] = &[
    "pg_table_is_visible",
    "pg_type_is_visible",
    "pg_function_is_visible",
    "pg_operator_is_visible",
    "pg_collation_is_visible",
    "pg_opclass_is_visible",
    "pg_statistics_obj_is_visible",
];

/// Functions that ask what the role may: to read.
const PRIVILEGES: &[&str] = &[
    "has_table_privilege",
    "has_schema_privilege",
    "has_database_privilege",
    "has_column_privilege",
    "has_any_column_privilege",
    "has_function_privilege",
    "has_sequence_privilege",
    "pg_has_role",
];

/// Adds them to a session.
pub(super) fn register(context: &SessionContext, tables: &[(String, SchemaRef)], user: &str) {
    let add = |name: &'static str, returns: DataType, body: Body| {
        // The arguments' types do not matter: their texts are looked at.
        let arguments = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        let signature = Signature::one_of(arguments, Volatility::Stable);
        context.register_udf(ScalarUDF::new_from_impl(Function { name, returns, signature, body }));
    };
    let add_text =
        |name: &'static str, told: String| add(name, DataType::Utf8, Arc::new(move |_| Value::Text(told.clone())));
    add_text("version", format!("PostgreSQL 16.0 (Outlay {})", env!("CARGO_PKG_VERSION")));
    for name in ["current_database", "current_catalog"] {
        add_text(name, DATABASE.to_owned());
    }
    add_text("current_schema", SCHEMA.to_owned());
    for name in ["current_user", "session_user", "current_role", "pg_get_userbyid"] {
        add_text(name, user.to_owned());
    }
    for name in ["pg_encoding_to_char", "pg_client_encoding"] {
        add_text(name, "UTF8".to_owned());
    }
    for name in ["pg_advisory_unlock_all", "set_config", "pg_get_viewdef"] {
        add(name, DataType::Utf8, Arc::new(|arguments| Value::Text(text(arguments, 1).unwrap_or_default())));
    }
    for name in NULL_TEXTS {
        add(name, DataType::Utf8, Arc::new(|_| Value::Null));
    }
    for name in VISIBLE {
        add(name, DataType::Boolean, Arc::new(|_| Value::Truth(true)));
    }
    for name in ["pg_is_in_recovery", "pg_relation_is_publishable", "row_security_active", "pg_is_other_temp_schema"] {
        add(name, DataType::Boolean, Arc::new(|_| Value::Truth(false)));
    }
    for name in PRIVILEGES {
        add(
            name,
            DataType::Boolean,
            Arc::new(|arguments| Value::Truth(may(text(arguments, arguments.len().wrapping_sub(1)).as_deref()))),
        );
    }
    for name in ["pg_backend_pid", "inet_server_port", "pg_my_temp_schema"] {
        add(name, DataType::Int32, Arc::new(|_| Value::Number(0)));
    }
    for name in [
        "generate_subscripts",
        "pg_relation_size",
        "pg_total_relation_size",
        "pg_table_size",
        "pg_indexes_size",
        "pg_database_size",
    ] {
        add(name, DataType::Int32, Arc::new(|_| Value::Null));
    }
    let schemas: Body = Arc::new(|arguments| {
        let implied = matches!(arguments.first(), Some(ScalarValue::Boolean(Some(true))));
        Value::Texts(["pg_catalog", SCHEMA][usize::from(!implied)..].iter().map(|name| (*name).to_owned()).collect())
    });
    add("current_schemas", texts(), schemas);
    let setting: Body = Arc::new(|arguments| {
        let name = text(arguments, 0).unwrap_or_default().to_ascii_lowercase();
        let found = SETTINGS.iter().find(|(known, _)| *known == name);
        found.map_or(Value::Null, |(_, value)| Value::Text((*value).to_owned()))
    });
    add("current_setting", DataType::Utf8, setting);
    let format_type: Body = Arc::new(|arguments| match number(arguments, 0) {
        Some(oid) => Value::Text(types::formatted(oid, number(arguments, 1).unwrap_or(-1))),
        None => Value::Null,
    });
    add("format_type", DataType::Utf8, format_type);
    let to_regtype: Body = Arc::new(|arguments| {
        text(arguments, 0).and_then(|name| types::by_name(&name)).map_or(Value::Null, |kind| Value::Number(kind.oid))
    });
    add("to_regtype", DataType::Int32, to_regtype);
    // Of the keys of indexes, of which there are none.
    let pair = ["x", "n"].map(|name| Field::new(name, DataType::Int32, true));
    add("_pg_expandarray", DataType::Struct(pair.to_vec().into()), Arc::new(|_| Value::Null));
    quoting(&add);
    let names: Arc<Vec<String>> = Arc::new(tables.iter().map(|(name, _)| name.clone()).collect());
    let known = Arc::clone(&names);
    add(
        "to_regclass",
        DataType::Int32,
        Arc::new(move |arguments| {
            let name = text(arguments, 0).unwrap_or_default();
            oid_of(&name, &known).map_or(Value::Null, Value::Number)
        }),
    );
    add(
        "regclass_text",
        DataType::Utf8,
        Arc::new(move |arguments| {
            let Some(oid) = number(arguments, 0) else { return Value::Null };
            let at = usize::try_from(oid - i64::from(FIRST_TABLE)).ok();
            Value::Text(at.and_then(|at| names.get(at)).cloned().unwrap_or_else(|| oid.to_string()))
        }),
    );
}

fn quoting(add: &dyn Fn(&'static str, DataType, Body)) {
    let quote_ident: Body =
        Arc::new(|arguments| text(arguments, 0).map_or(Value::Null, |name| Value::Text(quoted(&name))));
    add("quote_ident", DataType::Utf8, quote_ident);
    let quote_literal: Body =
        Arc::new(|arguments| text(arguments, 0).map_or(Value::Null, |value| Value::Text(super::literal(&value))));
    add("quote_literal", DataType::Utf8, quote_literal);
    let parse_ident: Body = Arc::new(|arguments| {
        let name = text(arguments, 0).unwrap_or_default();
        Value::Texts(name.split('.').map(|part| part.trim_matches('"').to_owned()).collect())
    });
    add("parse_ident", texts(), parse_ident);
}

/// A name as it has to be written: quoted where it is no plain one.
fn quoted(name: &str) -> String {
    let plain =
        |(at, byte): (usize, u8)| byte == b'_' || byte.is_ascii_lowercase() || (at > 0 && byte.is_ascii_digit());
    // Words of SQL that are names of columns here.
    let is_word = matches!(name, "user" | "limit" | "offset");
    let is_plain = !name.is_empty() && name.bytes().enumerate().all(plain) && !is_word;
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Whether the role has one of these privileges.
fn may(privileges: Option<&str>) -> bool {
    let can = |privilege: &str| {
        matches!(privilege.trim().to_ascii_uppercase().as_str(), "SELECT" | "USAGE" | "CONNECT" | "MEMBER")
    };
    privileges.is_some_and(|privileges| privileges.split(',').any(can))
}

/// The number of a table by its name.
pub(super) fn oid_of(name: &str, tables: &[String]) -> Option<i32> {
    let name = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    let at = tables.iter().position(|table| table == name)?;
    Some(FIRST_TABLE + i32::try_from(at).ok()?)
}
