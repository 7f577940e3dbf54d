//! The types on the wire. Numbers are those of PostgreSQL's `pg_type`, which clients have built in.

use arrow::datatypes::{DataType, IntervalUnit};

/// SQLSTATEs that are used here (PostgreSQL, appendix A).
pub mod state {
    /// A message that does not fit the protocol.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// What is asked for is not there.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// Wrong in a way that has no state of its own.
    pub const SYNTAX_OR_ACCESS: &str = "42000";
    /// No SQL.
    pub const SYNTAX_ERROR: &str = "42601";
    /// No such column.
    pub const UNDEFINED_COLUMN: &str = "42703";
    /// No such function, or none for these types.
    pub const UNDEFINED_FUNCTION: &str = "42883";
    /// No such table.
    pub const UNDEFINED_TABLE: &str = "42P01";
    /// No such setting.
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// A value that its type does not have.
    pub const INVALID_TEXT: &str = "22P02";
    /// A value in a form that its type does not have.
    pub const INVALID_BINARY: &str = "22P03";
    /// Divided by zero.
    pub const DIVISION_BY_ZERO: &str = "22012";
    /// Something would be written.
    pub const READ_ONLY: &str = "25006";
    /// After an error only the end of the transaction.
    pub const IN_FAILED_TRANSACTION: &str = "25P02";
    /// No such prepared statement.
    pub const UNDEFINED_STATEMENT: &str = "26000";
    /// No such portal or cursor.
    pub const UNDEFINED_CURSOR: &str = "34000";
    /// May not come in this way.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// The key is wrong.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// The query's memory is used up.
    pub const OUT_OF_MEMORY: &str = "53200";
    /// Too many connections or queries.
    pub const TOO_MANY: &str = "53300";
    /// A limit is reached.
    pub const LIMIT_EXCEEDED: &str = "54000";
    /// Nested too deeply.
    pub const TOO_COMPLEX: &str = "54001";
    /// Cancelled, or longer than it may run.
    pub const QUERY_CANCELED: &str = "57014";
    /// The server stops.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// Our own fault.
    pub const INTERNAL_ERROR: &str = "XX000";
}

macro_rules! parameter_types {
    ($($variant:ident $oid:literal $name:literal $doc:literal;)*) => {
        /// A type that a parameter can have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ParameterType { $(#[doc = $doc] $variant,)* }

        impl ParameterType {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            #[must_use]
            pub const fn oid(self) -> u32 {
                match self { $(Self::$variant => $oid,)* }
            }

            /// The name in SQL.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

parameter_types! {
    Bool 16 "boolean" "True or false.";
    Int2 21 "smallint" "A whole number of 16 bits.";
    Int4 23 "integer" "A whole number of 32 bits.";
    Int8 20 "bigint" "A whole number of 64 bits.";
    Float4 700 "real" "A floating-point number of 32 bits.";
    Float8 701 "double precision" "A floating-point number of 64 bits.";
    Numeric 1700 "numeric" "A decimal.";
    Text 25 "text" "A text.";
    Bytea 17 "bytea" "Bytes.";
    Date 1082 "date" "A day.";
    Time 1083 "time" "A time of a day.";
    Timestamp 1114 "timestamp" "A time without a zone.";
    Timestamptz 1184 "timestamptz" "A time.";
    Interval 1186 "interval" "A span of time.";
    Uuid 2950 "uuid" "A UUID.";
}

impl ParameterType {
    /// The type that a client means by a number; `None` where it says none (0, or `unknown`), or one that is read as text.
    pub(crate) fn of_oid(oid: u32) -> Option<Self> {
        match oid {
            // varchar, bpchar, name, "char", json, jsonb: texts.
            1043 | 1042 | 19 | 18 | 114 | 3802 => Some(Self::Text),
            // oid, regclass, regtype
            26 | 2205 | 2206 => Some(Self::Int8),
            _ => Self::ALL.iter().copied().find(|kind| kind.oid() == oid),
        }
    }

    /// The type of a parameter that stands where this is expected.
    #[must_use]
    pub fn of_arrow(kind: &DataType) -> Self {
        let oid = wire_type(kind).oid;
        Self::of_oid(oid).unwrap_or(Self::Text)
    }
}

/// The type of the items of an array, where the number is one of an array.
pub(crate) fn item_of(oid: u32) -> Option<ParameterType> {
    // varchar[], oid[]
    let item = match oid {
        1015 => ParameterType::Text,
        1028 => ParameterType::Int8,
        _ => *ParameterType::ALL.iter().find(|kind| array_of(kind.oid()) == Some(oid))?,
    };
    Some(item)
}

/// A column's type as a `RowDescription` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireType {
    pub oid: u32,
    /// Bytes in the binary form; -1: any number.
    pub size: i16,
    /// Of a decimal its precision and scale; else -1.
    pub modifier: i32,
}

const fn fixed(oid: u32, size: i16) -> WireType {
    WireType { oid, size, modifier: -1 }
}

const TEXT: WireType = fixed(25, -1);

/// Of decimals `numeric` with precision and scale, so that drivers know the digits after the point.
pub(crate) fn wire_type(kind: &DataType) -> WireType {
    match kind {
        DataType::Boolean => fixed(16, 1),
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => fixed(21, 2),
        DataType::UInt16 | DataType::Int32 => fixed(23, 4),
        DataType::UInt32 | DataType::Int64 => fixed(20, 8),
        DataType::UInt64 => fixed(1700, -1),
        DataType::Float16 | DataType::Float32 => fixed(700, 4),
        DataType::Float64 => fixed(701, 8),
        // Four is the length of the word that PostgreSQL keeps them in.
        DataType::Decimal128(precision, scale @ 0..) => {
            WireType { oid: 1700, size: -1, modifier: (i32::from(*precision) << 16 | i32::from(*scale)) + 4 }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => fixed(17, -1),
        DataType::Date32 | DataType::Date64 => fixed(1082, 4),
        DataType::Time32(_) | DataType::Time64(_) => fixed(1083, 8),
        DataType::Timestamp(_, None) => fixed(1114, 8),
        DataType::Timestamp(_, Some(_)) => fixed(1184, 8),
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime | IntervalUnit::MonthDayNano)
        | DataType::Duration(_) => fixed(1186, 16),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::FixedSizeList(item, _) => {
            array_of(wire_type(item.data_type()).oid).map_or(TEXT, |oid| fixed(oid, -1))
        }
        DataType::Dictionary(_, value) => wire_type(value),
        _ => TEXT,
    }
}

/// The type of an array of these; `None` where we know none, and of arrays of arrays.
fn array_of(oid: u32) -> Option<u32> {
    Some(match oid {
        16 => 1000,
        21 => 1005,
        23 => 1007,
        20 => 1016,
        700 => 1021,
        701 => 1022,
        1700 => 1231,
        25 => 1009,
        17 => 1001,
        1082 => 1182,
        1083 => 1183,
        1114 => 1115,
        1184 => 1185,
        1186 => 1187,
        _ => return None,
    })
}
