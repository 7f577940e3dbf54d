//! What the protocol asks of the rest of the program.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::{ParameterType, PgError};

/// Who asks: what [`Backend::authenticate`] knows of them, handed back with each question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the key that they came with.
    pub key: String,
}

/// A query with the values of its parameters `$1`, `$2`, ….
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// One statement.
    pub sql: String,
    /// The parameters, as far as they are known: those of a statement that is only described have no values.
    pub parameters: Vec<Parameter>,
}

/// A parameter of a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameter {
    /// Its type, where the client says one.
    pub kind: Option<ParameterType>,
    /// Its value as text; `None` is null, or not known yet.
    pub value: Option<String>,
}

/// What a statement takes and gives.
#[derive(Debug, Clone)]
pub struct Description {
    /// The parameters' types, in their order.
    pub parameters: Vec<ParameterType>,
    /// The columns.
    pub columns: SchemaRef,
}

/// Rows on their way. Dropping it ends the query.
#[async_trait]
pub trait Rows: Send {
    /// The columns.
    fn columns(&self) -> SchemaRef;

    /// The next rows; `None` at the end.
    async fn next(&mut self) -> Option<Result<RecordBatch, PgError>>;
}

/// Everything behind the protocol. Dropping the future of a method ends what it started.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Who comes with this user name and password, where they may come in.
    async fn authenticate(&self, user: &str, password: &str) -> Option<Caller>;

    /// What a statement takes and gives, without running it.
    async fn describe(&self, caller: &Caller, question: Question) -> Result<Description, PgError>;

    /// Runs a statement.
    async fn run(&self, caller: &Caller, question: Question) -> Result<Box<dyn Rows>, PgError>;
}
