//! PostgreSQL's protocol within the server: its queries run in children like all others, and its listener opens beside HTTP's.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use http_api::Secret;
use pg_server::{Backend, Caller, Description, ParameterType, PgConfig, PgError, PgServer, Question, Rows, state, tls};
use usage_lake::{BatchStream, LakeError, PgParameter, PgQuery};

use super::engine::Outlay;
use super::rows::QueryCount;
use crate::options::Settings;

/// The name of the one key.
const ADMIN: &str = "admin";

/// The engine behind PostgreSQL's protocol.
struct Queries {
    engine: Arc<Outlay>,
    key: Secret,
}

/// The listener; none where it was not asked for.
pub async fn listen(settings: &Settings, key: Secret, engine: &Arc<Outlay>) -> Result<Option<PgServer>> {
    let Some(listen) = settings.pg else { return Ok(None) };
    let acceptor = settings.pg_tls.as_ref().map(|(certificates, key)| {
        tls(certificates, key)
            .with_context(|| format!("--pg-tls-cert {} with --pg-tls-key {}", certificates.display(), key.display()))
    });
    let acceptor = acceptor.transpose()?;
    if acceptor.is_none() && !listen.ip().is_loopback() {
        tracing::warn!(%listen, "without --pg-tls-cert and --pg-tls-key only clients of this machine are let in by PostgreSQL's protocol");
    }
    let backend = Arc::new(Queries { engine: Arc::clone(engine), key });
    let server = PgServer::bind(PgConfig::new(listen, acceptor), backend).await;
    server
        .map(Some)
        .with_context(|| format!("cannot serve PostgreSQL's protocol at {listen}; give it another --pg address"))
}

#[async_trait]
impl Backend for Queries {
    /// Whoever has the key, by whatever user name: tools must send one.
    async fn authenticate(&self, _user: &str, password: &str) -> Option<Caller> {
        self.key.is(password).then(|| Caller { key: ADMIN.to_owned() })
    }

    async fn describe(&self, caller: &Caller, question: Question) -> Result<Description, PgError> {
        let input = self.engine.input(&question.sql).await.map_err(|problem| internal(problem.detail))?;
        let sql = question.sql.clone();
        let described = self.engine.queries.pg_describe(query(caller, question), input).await;
        let described = described.map_err(|error| pg_error(error, &sql))?;
        let parameters = described.parameters.iter().map(ParameterType::of_arrow).collect();
        Ok(Description { parameters, columns: described.columns })
    }

    async fn run(&self, caller: &Caller, question: Question) -> Result<Box<dyn Rows>, PgError> {
        let mut count = QueryCount::begin(&self.engine.shared);
        let sql = question.sql.clone();
        let input = self.engine.input(&sql).await.map_err(|problem| internal(problem.detail))?;
        let batches = self.engine.queries.pg_rows(query(caller, question), input).await;
        let batches = count.note(batches).map_err(|error| pg_error(error, &sql))?;
        count.open();
        Ok(Box::new(Running { batches, count, sql }))
    }
}

fn query(caller: &Caller, question: Question) -> PgQuery {
    let parameter = |parameter: pg_server::Parameter| PgParameter {
        kind: parameter.kind.map(|kind| kind.name().to_owned()),
        value: parameter.value,
    };
    let parameters = question.parameters.into_iter().map(parameter).collect();
    PgQuery { sql: question.sql, parameters, user: caller.key.clone() }
}

struct Running {
    batches: BatchStream,
    count: QueryCount,
    sql: String,
}

#[async_trait]
impl Rows for Running {
    fn columns(&self) -> SchemaRef {
        self.batches.schema()
    }

    async fn next(&mut self) -> Option<Result<RecordBatch, PgError>> {
        let Some(batch) = self.batches.next().await else {
            self.count.done();
            return None;
        };
        match batch {
            Ok(batch) => Some(Ok(batch)),
            failed => Some(self.count.note(failed).map_err(|error| pg_error(error, &self.sql))),
        }
    }
}

fn internal(message: String) -> PgError {
    PgError::new(state::INTERNAL_ERROR, message)
}

/// An error of a query with its SQLSTATE and, where it is known, its place in the statement.
fn pg_error(error: LakeError, sql: &str) -> PgError {
    let state = match &error {
        LakeError::Sql(message) => sql_state(message),
        LakeError::QueryMemory { .. } => state::OUT_OF_MEMORY,
        LakeError::QueryTime { .. } => state::QUERY_CANCELED,
        LakeError::QueryResult { .. } => state::LIMIT_EXCEEDED,
        LakeError::QueryDepth => state::TOO_COMPLEX,
        LakeError::QueryBusy => state::TOO_MANY,
        _ => state::INTERNAL_ERROR,
    };
    let message = error.to_string();
    PgError { position: position(&message, sql), ..PgError::new(state, message) }
}

/// What kind of error it is, by the words of the query engine: it tells no more of it.
fn sql_state(message: &str) -> &'static str {
    const STATES: [(&str, &str); 9] = [
        ("only queries are allowed", state::READ_ONLY),
        ("ParserError", state::SYNTAX_ERROR),
        ("TokenizerError", state::SYNTAX_ERROR),
        ("No field named", state::UNDEFINED_COLUMN),
        ("' not found", state::UNDEFINED_TABLE),
        ("Invalid function", state::UNDEFINED_FUNCTION),
        ("ivide by zero", state::DIVISION_BY_ZERO),
        ("Cannot cast", state::INVALID_TEXT),
        ("Error parsing", state::INVALID_TEXT),
    ];
    STATES.iter().find(|(words, _)| message.contains(words)).map_or(state::SYNTAX_OR_ACCESS, |(_, state)| state)
}

/// `… at Line: 2, Column: 8` as a number of characters from 1.
fn position(message: &str, sql: &str) -> Option<usize> {
    let (_, place) = message.rsplit_once("Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let column: String = column.chars().take_while(char::is_ascii_digit).collect();
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    let before: usize = sql.split_inclusive('\n').take(line.checked_sub(1)?).map(|line| line.chars().count()).sum();
    Some(before + column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_statement_counts_its_lines_and_characters() {
        let message = "ParserError(\"Expected: an expression, found: from at Line: 2, Column: 8\")";
        assert_eq!(position(message, "select 'é',\n       from usage"), Some(20));
        assert_eq!(position("No field named x", "select x"), None);
        assert_eq!(sql_state(message), state::SYNTAX_ERROR);
    }
}
