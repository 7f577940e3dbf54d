//! A prepared statement, and a portal: a statement with its values, whose rows may be taken in several goes.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;

use crate::command::Command;
use crate::message::{Bind, Outbox};
use crate::session::{Client, Stop};
use crate::settings::Settings;
use crate::types::{ParameterType, item_of, state, wire_type};
use crate::{Description, Parameter, PgError, Question, Rows, encode, parameter};

/// How many bytes of rows are sent at once.
const SENT_AT_ONCE: usize = 64 << 10;

/// A prepared statement.
pub(crate) struct Statement {
    command: Command,
    sql: String,
    oids: Vec<u32>,
    pub description: Option<Description>,
}

impl Statement {
    pub fn new(command: Command, sql: &str, oids: Vec<u32>) -> Self {
        Self { command, sql: sql.to_owned(), oids, description: None }
    }

    pub fn is_query(&self) -> bool {
        self.command == Command::Query
    }

    /// The statement with what is known of its parameters.
    pub fn question(&self) -> Question {
        let parameters =
            self.oids.iter().map(|oid| Parameter { kind: ParameterType::of_oid(*oid), value: None }).collect();
        Question { sql: self.sql.clone(), parameters }
    }

    /// Tells what it takes and gives.
    pub fn tell(&self, settings: &Settings, outbox: &mut Outbox) -> Result<(), PgError> {
        let told = self.description.as_ref().map_or(&[][..], |description| &description.parameters);
        outbox.parameters(told.iter().map(|kind| kind.oid()));
        let columns = match (&self.description, &self.command) {
            (Some(description), _) => Arc::clone(&description.columns),
            (None, Command::Show(name)) => shown(name, settings)?.schema(),
            _ => {
                outbox.no_data();
                return Ok(());
            }
        };
        tell_columns(outbox, &columns, |_| false);
        Ok(())
    }

    /// A portal with these values.
    pub fn bind(&self, bind: &Bind) -> Result<Portal, PgError> {
        let mut parameters = Vec::with_capacity(bind.values.len());
        for (at, value) in bind.values.iter().enumerate() {
            let is_binary = of(&bind.formats, at)?;
            let oid = self.oids.get(at).copied().unwrap_or(0);
            let declared = ParameterType::of_oid(oid);
            let told = self.description.as_ref().and_then(|description| description.parameters.get(at)).copied();
            // A binary value is of the type that the client was told; a text is read where it stands.
            let kind = declared.or(told.filter(|_| is_binary));
            let read = |bytes: &Bytes| match item_of(oid) {
                Some(item) if is_binary => parameter::array(item, bytes),
                _ => parameter::text(kind, is_binary, bytes),
            };
            let value = value.as_ref().map(read).transpose()?;
            parameters.push(Parameter { kind, value });
        }
        let question = Question { sql: self.sql.clone(), parameters };
        Ok(Portal::new(self.command.clone(), question, bind.result_formats.clone()))
    }
}

/// A list of formats: none says text, one says it of all.
fn of(formats: &[bool], at: usize) -> Result<bool, PgError> {
    match formats {
        [] => Ok(false),
        [all] => Ok(*all),
        each => each.get(at).copied().ok_or_else(|| PgError::protocol("there are fewer formats than values")),
    }
}

/// A statement with its values.
pub(crate) struct Portal {
    pub command: Command,
    pub question: Question,
    formats: Vec<bool>,
    rows: Option<Box<dyn Rows>>,
    /// The rows that came last, and how many of them are sent.
    batch: Option<(Vec<ArrayRef>, usize, usize)>,
    is_over: bool,
    sent: u64,
}

impl Portal {
    pub fn new(command: Command, question: Question, formats: Vec<bool>) -> Self {
        Self { command, question, formats, rows: None, batch: None, is_over: false, sent: 0 }
    }

    pub fn is_query(&self) -> bool {
        self.command == Command::Query
    }

    pub fn is_begun(&self) -> bool {
        self.rows.is_some()
    }

    pub fn begin(&mut self, rows: Box<dyn Rows>) {
        self.rows = Some(rows);
    }

    /// Has one row, the setting's value.
    pub fn begin_show(&mut self, name: String, settings: &Settings) -> Result<(), PgError> {
        if self.rows.is_none() {
            self.rows = Some(Box::new(Shown(Some(shown(&name, settings)?))));
        }
        Ok(())
    }

    pub fn tell_columns(&self, outbox: &mut Outbox) {
        if let Some(rows) = &self.rows {
            tell_columns(outbox, &rows.columns(), |at| of(&self.formats, at).unwrap_or(false));
        }
    }

    /// Sends so many rows at most (0: all), and whether there are more.
    pub async fn send(&mut self, client: &mut Client, rows_max: usize) -> Result<(), Stop> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        let count = rows.columns().fields().len();
        if self.formats.len() > 1 && self.formats.len() != count {
            return Err(PgError::protocol("there are other formats than columns").into());
        }
        let before = self.sent;
        while !self.is_over {
            let Some((columns, length, at)) = &mut self.batch else {
                match client.attend(rows.next()).await? {
                    Some(batch) => {
                        let batch = batch?;
                        self.batch = Some((encode::prepared(&batch)?, batch.num_rows(), 0));
                    }
                    None => self.is_over = true,
                }
                continue;
            };
            while *at < *length {
                if rows_max > 0 && self.sent - before >= rows_max as u64 {
                    client.outbox.suspended();
                    return Ok(());
                }
                encode::row(&mut client.outbox, columns, *at, |at| of(&self.formats, at).unwrap_or(false))?;
                (*at, self.sent) = (*at + 1, self.sent + 1);
                if client.outbox.0.len() >= SENT_AT_ONCE {
                    client.flush().await?;
                }
            }
            self.batch = None;
        }
        let tag = if matches!(self.command, Command::Show(_)) {
            "SHOW".to_owned()
        } else {
            format!("SELECT {}", self.sent - before)
        };
        client.outbox.complete(&tag);
        Ok(())
    }
}

fn tell_columns(outbox: &mut Outbox, columns: &SchemaRef, is_binary: impl Fn(usize) -> bool) {
    let fields = columns.fields().iter().enumerate();
    outbox.columns(fields.map(|(at, field)| (field.name().as_str(), wire_type(field.data_type()), is_binary(at))));
}

/// A setting as a row.
fn shown(name: &str, settings: &Settings) -> Result<RecordBatch, PgError> {
    let value = settings.get(name).ok_or_else(|| {
        PgError::new(state::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
    })?;
    let schema = Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, false)]));
    let column: ArrayRef = Arc::new(StringArray::from(vec![value]));
    RecordBatch::try_new(schema, vec![column]).map_err(|error| PgError::new(state::INTERNAL_ERROR, error.to_string()))
}

struct Shown(Option<RecordBatch>);

#[async_trait]
impl Rows for Shown {
    fn columns(&self) -> SchemaRef {
        self.0.as_ref().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema)
    }

    async fn next(&mut self) -> Option<Result<RecordBatch, PgError>> {
        self.0.take().map(Ok)
    }
}
