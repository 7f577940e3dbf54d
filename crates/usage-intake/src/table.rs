//! Rows of tables (CSV, Parquet, an export of the lake) as native events: what the names of columns mean, and how cells become JSON.
//!
//! A column is named as the member of the native event that it holds, with dots for what is nested (`tokens.input`, `cost.amount`,
//! `tags.env`), or as the lake's column (`input_tokens`, `cost`, `currency`). A cell that is empty is absent. The JSON goes through the
//! same reader as every other event, so that a table's row is refused for what an event would be, and with the same words.
//!
//! A table with a column `kind` is one of the lake: its rows stand for what was counted, corrections included. What was taken back
//! and the row that takes it back are left out together, and the rest is taken in as it stands: see [`TableRow`].

use std::borrow::Cow;

use serde_json::value::RawValue;
use usage_types::{Dimension, RejectCode, Rejection, TokenClass};

use crate::field::bounded;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Count,
    Decimal,
    Flag,
    /// An object as JSON text.
    Object,
    /// The lake's `kind`, `corrects` and `reverses`.
    RowOf,
    Corrects,
    Reverses,
    /// Of the lake's own, or one that nobody knows: not read.
    Skipped,
}

/// One column: the member that it holds, and of which object.
#[derive(Debug, Clone)]
struct Column {
    object: &'static str,
    member: Cow<'static, str>,
    kind: Kind,
}

/// The columns of a table whose rows are events.
#[derive(Debug, Clone)]
pub struct TableColumns {
    columns: Vec<Column>,
    is_lake: bool,
    unknown: Vec<String>,
}

/// What a row of a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableRow {
    /// An event, as native JSON; of a lake's row the usage or the adjustment that counts.
    Event(String),
    /// A row of a lake that takes another one back; both are left out together.
    Reversal {
        /// The source of both.
        source: String,
        /// The id of the row that it takes back.
        reverses: String,
    },
}

/// Columns of the lake that say how a row came to be, not what it holds.
const LAKE_ONLY: [&str; 10] = [
    "total_tokens",
    "cost_origin",
    "partition",
    "offset",
    "log_time",
    "late",
    "clamped",
    "sent_time",
    "date",
    "unpriced_reason",
];

/// Objects of an event, in the order in which they are written; the empty one is the event.
const OBJECTS: [&str; 4] = ["", "tokens", "cost", "tags"];

impl TableColumns {
    /// Reads the names of the columns.
    ///
    /// # Errors
    /// A field has two columns, or (unless unknown columns are skipped) a column has no meaning.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>, skip_unknown: bool) -> Result<Self, Rejection> {
        let names: Vec<&str> = names.into_iter().map(|name| name.trim().trim_start_matches('\u{feff}')).collect();
        let is_lake = names.contains(&"kind");
        let mut table = Self { columns: Vec::with_capacity(names.len()), is_lake, unknown: Vec::new() };
        for name in names {
            let column = match column(name, is_lake) {
                Some(column) => column,
                None if skip_unknown => {
                    table.unknown.push(name.to_owned());
                    Column { object: "", member: "".into(), kind: Kind::Skipped }
                }
                None => return Err(unknown(name)),
            };
            let is_same = |other: &Column| {
                other.kind != Kind::Skipped && (other.object, &other.member) == (column.object, &column.member)
            };
            let clashes = column.kind != Kind::Skipped
                && (table.columns.iter().any(is_same)
                    || (column.object == "tags" && table.has_whole_tags())
                    || (column.kind == Kind::Object
                        && column.member == "tags"
                        && table.columns.iter().any(|other| other.object == "tags")));
            if clashes {
                let message = format!("two columns hold the field of `{name}`; keep one of them");
                return Err(Rejection::field(RejectCode::WrongType, bounded(name.to_owned()), message));
            }
            table.columns.push(column);
        }
        Ok(table)
    }

    fn has_whole_tags(&self) -> bool {
        self.columns.iter().any(|column| column.kind == Kind::Object && column.member == "tags")
    }

    /// How many columns there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Whether the table is one of a lake, so that rows of it may take others back.
    #[must_use]
    pub fn is_lake(&self) -> bool {
        self.is_lake
    }

    /// The columns that are not read because nobody knows them.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Whether the column at this place must not hold floating-point numbers, since they are not exact.
    #[must_use]
    pub fn is_money(&self, at: usize) -> bool {
        self.columns.get(at).is_some_and(|column| column.object == "cost" && column.kind == Kind::Decimal)
    }

    /// Whether the column at this place is read at all.
    #[must_use]
    pub fn is_read(&self, at: usize) -> bool {
        self.columns.get(at).is_some_and(|column| column.kind != Kind::Skipped)
    }

    /// The native JSON of a row, from its cells in the order of the columns. What the event lacks, its reader says.
    ///
    /// # Errors
    /// A cell is not what its column holds, or there are more or fewer cells than columns.
    pub fn row(&self, cells: &[Option<&str>]) -> Result<TableRow, Rejection> {
        if cells.len() != self.columns.len() {
            let message = format!("{} cells in a table of {} columns", cells.len(), self.columns.len());
            return Err(Rejection::new(RejectCode::WrongType, message));
        }
        let mut json = Json { text: "{".to_owned() };
        if self.is_lake
            && let Some(reversal) = self.lake_role(cells, &mut json)?
        {
            return Ok(reversal);
        }
        for object in OBJECTS {
            let mut in_it = self.columns.iter().zip(cells).filter(|(column, _)| column.object == object);
            if object.is_empty() {
                in_it.try_for_each(|(column, cell)| json.cell(column, cell.unwrap_or_default()))?;
                continue;
            }
            let in_it: Vec<_> = in_it.filter(|(_, cell)| cell.is_some_and(|cell| !cell.trim().is_empty())).collect();
            // A table has one currency in every row, also where no cost is known.
            if in_it.is_empty() || (object == "cost" && in_it.iter().all(|(column, _)| column.member == "currency")) {
                continue;
            }
            json.begin(object);
            in_it.into_iter().try_for_each(|(column, cell)| json.cell(column, cell.unwrap_or_default()))?;
            json.text.push('}');
        }
        json.text.push('}');
        Ok(TableRow::Event(json.text))
    }

    /// What a row of a lake is: usage and amendments count by themselves, an adjustment names its run.
    fn lake_role(&self, cells: &[Option<&str>], json: &mut Json) -> Result<Option<TableRow>, Rejection> {
        let cell = |is: Kind| {
            let found = self.columns.iter().zip(cells).find(|(column, _)| column.kind == is);
            found.and_then(|(_, cell)| *cell).filter(|cell| !cell.is_empty())
        };
        match cell(Kind::RowOf) {
            None | Some("usage" | "backfill" | "amendment") => Ok(None),
            Some("adjustment") => {
                json.member("adjusts", cell(Kind::Corrects).unwrap_or_default());
                Ok(None)
            }
            Some("reversal") => {
                let reverses = cell(Kind::Reverses).ok_or_else(|| {
                    let message = "a reversal names the row that it takes back; export the column `reverses` too";
                    Rejection::field(RejectCode::MissingField, "reverses", message)
                })?;
                let source = self.columns.iter().zip(cells).find(|(column, _)| column.member == "source");
                let source = source.and_then(|(_, cell)| *cell).unwrap_or_default().to_owned();
                Ok(Some(TableRow::Reversal { source, reverses: reverses.to_owned() }))
            }
            Some(other) => {
                let message = format!(
                    "{other:?} is no kind of row; the lake has usage, backfill, reversal, amendment and adjustment"
                );
                Err(Rejection::field(RejectCode::OutOfRange, "kind", bounded(message)))
            }
        }
    }
}

/// What a column of this name holds.
fn column(name: &str, is_lake: bool) -> Option<Column> {
    let of = |object: &'static str, member: &'static str, kind| Some(Column { object, member: member.into(), kind });
    if let Some(tag) = name.strip_prefix("tags.") {
        return Some(Column { object: "tags", member: tag.to_owned().into(), kind: Kind::Text });
    }
    let class = name.strip_prefix("tokens.").map(|class| TokenClass::ALL.into_iter().find(|c| c.name() == class));
    if let Some(class) = class.or_else(|| Some(TokenClass::ALL.into_iter().find(|c| c.column() == name))).flatten() {
        return of("tokens", class.name(), Kind::Count);
    }
    if let Ok(dimension) = name.parse::<Dimension>() {
        return of("", dimension.name(), Kind::Text);
    }
    match name {
        "kind" => of("", "kind", Kind::RowOf),
        "corrects" if is_lake => of("", "corrects", Kind::Corrects),
        "reverses" if is_lake => of("", "reverses", Kind::Reverses),
        name if is_lake && LAKE_ONLY.contains(&name) => of("", "", Kind::Skipped),
        "id" => of("", "id", Kind::Text),
        "source" => of("", "source", Kind::Text),
        "time" => of("", "time", Kind::Text),
        "usage_format" => of("", "usage_format", Kind::Text),
        "corrects" => of("", "corrects", Kind::Text),
        "correction" => of("", "correction", Kind::Text),
        "adjusts" => of("", "adjusts", Kind::Text),
        "requests" => of("", "requests", Kind::Count),
        "tool_calls" => of("", "tool_calls", Kind::Count),
        "images" => of("", "images", Kind::Count),
        "processed" => of("", "processed", Kind::Count),
        "total" => of("", "total", Kind::Count),
        "compute_seconds" => of("", "compute_seconds", Kind::Decimal),
        "backfill" => of("", "backfill", Kind::Flag),
        "usage" => of("", "usage", Kind::Object),
        "tags" => of("", "tags", Kind::Object),
        "cost" | "cost.amount" => of("cost", "amount", Kind::Decimal),
        "currency" | "cost.currency" => of("cost", "currency", Kind::Text),
        _ => None,
    }
}

fn unknown(name: &str) -> Rejection {
    let message = format!(
        "no field of an event has the name {name:?}; a column is named like `time`, `namespace`, `model`, `tokens.input`, `cost.amount`, \
         `cost.currency` or `tags.env`. Rename it, or have unknown columns skipped"
    );
    Rejection::field(RejectCode::UnknownField, bounded(name.to_owned()), bounded(message))
}

/// An object in the making.
struct Json {
    text: String,
}

impl Json {
    fn name(&mut self, name: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.string(name);
        self.text.push(':');
    }

    fn string(&mut self, text: &str) {
        self.text.push_str(&serde_json::Value::from(text).to_string());
    }

    fn member(&mut self, name: &str, text: &str) {
        self.name(name);
        self.string(text);
    }

    fn begin(&mut self, object: &str) {
        self.name(object);
        self.text.push('{');
    }

    fn cell(&mut self, column: &Column, cell: &str) -> Result<(), Rejection> {
        let trimmed = cell.trim();
        if trimmed.is_empty() {
            return Ok(());
        }
        let refuse = |code, message: String| {
            let (object, member) = (column.object, &column.member);
            let path = if object.is_empty() { member.to_string() } else { format!("{object}.{member}") };
            Err(Rejection::field(code, path, bounded(message)))
        };
        let name = &column.member;
        match column.kind {
            Kind::Skipped | Kind::RowOf | Kind::Corrects | Kind::Reverses => {}
            Kind::Text => self.member(name, if column.member == "time" { trimmed } else { cell }),
            // Exact as text; whether it is a decimal is for the reader to say.
            Kind::Decimal => self.member(name, trimmed),
            Kind::Count => match whole(trimmed) {
                Some(digits) => {
                    self.name(name);
                    self.text.push_str(digits);
                }
                None => {
                    return refuse(RejectCode::WrongType, format!("{trimmed:?} is no whole number; write digits only"));
                }
            },
            Kind::Flag => {
                let flag = match () {
                    () if trimmed.eq_ignore_ascii_case("true") => "true",
                    () if trimmed.eq_ignore_ascii_case("false") => "false",
                    () => return refuse(RejectCode::WrongType, format!("{trimmed:?} is neither `true` nor `false`")),
                };
                self.name(name);
                self.text.push_str(flag);
            }
            Kind::Object => {
                if serde_json::from_str::<&RawValue>(trimmed).is_err() || !trimmed.starts_with(['{', '[']) {
                    return refuse(
                        RejectCode::NotJson,
                        format!("{trimmed:?} is no JSON object; write one, with its quotes doubled in CSV"),
                    );
                }
                self.name(name);
                self.text.push_str(trimmed);
            }
        }
        Ok(())
    }
}

/// The digits of a whole number. A fraction of zeros is one too: programs that know no missing integers write `12.0`.
fn whole(text: &str) -> Option<&str> {
    let digits = match text.split_once('.') {
        Some((digits, zeros)) if zeros.bytes().all(|byte| byte == b'0') => digits,
        Some(_) => return None,
        None => text,
    };
    let (sign, plain) = digits.split_at(usize::from(digits.starts_with('-')));
    if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let zeros = plain.len() - plain.trim_start_matches('0').len();
    match (sign, zeros) {
        (_, 0) => Some(digits),
        (_, zeros) if zeros == plain.len() => Some("0"),
        ("", zeros) => Some(&plain[zeros..]),
        // A negative number with leading zeros is refused as negative anyway.
        _ => Some("-1"),
    }
}
