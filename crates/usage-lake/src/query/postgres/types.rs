//! Types by their numbers and names in PostgreSQL.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

/// A row of `pg_type`: number, name, the name in SQL, bytes (-1: any number), category, number of its array.
pub(super) struct PgType {
    pub oid: i32,
    pub name: &'static str,
    pub sql_name: &'static str,
    pub bytes: i16,
    pub category: &'static str,
    pub array: i32,
}

macro_rules! types {
    ($($oid:literal $name:literal $sql:literal $bytes:literal $category:literal $array:literal;)*) => {
        /// The types that columns and parameters can have, and those that the catalog itself names.
        pub(super) const TYPES: &[PgType] = &[
            $(PgType { oid: $oid, name: $name, sql_name: $sql, bytes: $bytes, category: $category, array: $array },)*
        ];
    };
}

types! {
    16 "bool" "boolean" 1 "B" 1000;
    17 "bytea" "bytea" -1 "U" 1001;
    18 "char" "\"char\"" 1 "Z" 1002;
    19 "name" "name" 64 "S" 1003;
    20 "int8" "bigint" 8 "N" 1016;
    21 "int2" "smallint" 2 "N" 1005;
    23 "int4" "integer" 4 "N" 1007;
    25 "text" "text" -1 "S" 1009;
    26 "oid" "oid" 4 "N" 1028;
    114 "json" "json" -1 "U" 199;
    700 "float4" "real" 4 "N" 1021;
    701 "float8" "double precision" 8 "N" 1022;
    1042 "bpchar" "character" -1 "S" 1014;
    1043 "varchar" "character varying" -1 "S" 1015;
    1082 "date" "date" 4 "D" 1182;
    1083 "time" "time without time zone" 8 "D" 1183;
    1114 "timestamp" "timestamp without time zone" 8 "D" 1115;
    1184 "timestamptz" "timestamp with time zone" 8 "D" 1185;
    1186 "interval" "interval" 16 "T" 1187;
    1700 "numeric" "numeric" -1 "N" 1231;
    2205 "regclass" "regclass" 4 "N" 2210;
    2206 "regtype" "regtype" 4 "N" 2211;
    2950 "uuid" "uuid" 16 "U" 2951;
    1000 "_bool" "boolean[]" -1 "A" 0;
    1005 "_int2" "smallint[]" -1 "A" 0;
    1007 "_int4" "integer[]" -1 "A" 0;
    1009 "_text" "text[]" -1 "A" 0;
    1016 "_int8" "bigint[]" -1 "A" 0;
    1022 "_float8" "double precision[]" -1 "A" 0;
    1231 "_numeric" "numeric[]" -1 "A" 0;
}

/// The number of the type of a column, and its modifier.
pub(super) fn of_arrow(kind: &DataType) -> (i32, i32) {
    match kind {
        DataType::Boolean => (16, -1),
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => (21, -1),
        DataType::UInt16 | DataType::Int32 => (23, -1),
        DataType::UInt32 | DataType::Int64 => (20, -1),
        DataType::UInt64 => (1700, -1),
        DataType::Float16 | DataType::Float32 => (700, -1),
        DataType::Float64 => (701, -1),
        DataType::Decimal128(precision, scale @ 0..) => (1700, (i32::from(*precision) << 16 | i32::from(*scale)) + 4),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => (17, -1),
        DataType::Date32 | DataType::Date64 => (1082, -1),
        DataType::Time32(_) | DataType::Time64(_) => (1083, -1),
        DataType::Timestamp(_, None) => (1114, -1),
        DataType::Timestamp(_, Some(_)) => (1184, -1),
        DataType::Interval(_) | DataType::Duration(_) => (1186, -1),
        _ => (25, -1),
    }
}

/// The row of a number.
pub(super) fn by_oid(oid: i64) -> Option<&'static PgType> {
    TYPES.iter().find(|kind| i64::from(kind.oid) == oid)
}

/// The row of a name, of either kind.
pub(super) fn by_name(name: &str) -> Option<&'static PgType> {
    let name = name.trim().trim_start_matches("pg_catalog.").to_ascii_lowercase();
    TYPES.iter().find(|kind| kind.name == name || kind.sql_name == name)
}

/// As `format_type` writes it.
pub(super) fn formatted(oid: i64, modifier: i64) -> String {
    match by_oid(oid) {
        Some(kind) if kind.oid == 1700 && modifier >= 4 => {
            let modifier = modifier - 4;
            format!("numeric({},{})", modifier >> 16, modifier & 0xffff)
        }
        Some(kind) => kind.sql_name.to_owned(),
        None if oid == 0 => "-".to_owned(),
        None => "???".to_owned(),
    }
}

/// The type that a parameter of this name in SQL has.
pub(super) fn of_name(name: &str) -> Option<DataType> {
    Some(match by_name(name)?.oid {
        16 => DataType::Boolean,
        21 => DataType::Int16,
        23 => DataType::Int32,
        20 | 26 => DataType::Int64,
        700 => DataType::Float32,
        701 => DataType::Float64,
        // As exact as money is here.
        1700 => DataType::Decimal128(38, 12),
        17 => DataType::Binary,
        1082 => DataType::Date32,
        1083 => DataType::Time64(TimeUnit::Microsecond),
        1114 => DataType::Timestamp(TimeUnit::Microsecond, None),
        1184 => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        1186 => DataType::Interval(IntervalUnit::MonthDayNano),
        _ => DataType::Utf8,
    })
}
