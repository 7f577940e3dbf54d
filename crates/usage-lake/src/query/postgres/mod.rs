//! PostgreSQL's SQL, as far as the tools that speak it need more than DataFusion's dialect: the catalog in which they look for tables, its
//! functions, and spellings that DataFusion does not know.
//!
//! Holds here: a statement becomes a query over the same tables as over any other door, and nothing else; what tools read of the catalog is made
//! of those tables' columns. All of it is in the child.
//! Deliberately absent: the crate datafusion-pg-catalog. It would turn on all of DataFusion's features, and with them file formats and
//! compressions that nothing here reads.

mod catalog;
mod functions;
mod rewrite;
mod types;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::config::Dialect;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SQLOptions, SessionContext};
use datafusion::sql::parser::Statement;
use serde::{Deserialize, Serialize};

/// The database that all clients are in.
pub(super) const DATABASE: &str = "outlay";
/// The schema of the views.
pub(super) const SCHEMA: &str = "public";

/// A query in PostgreSQL's dialect, with values for `$1`, `$2`, ….
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgQuery {
    /// One statement.
    pub sql: String,
    /// Values of its parameters.
    pub parameters: Vec<PgParameter>,
    /// What `current_user` tells.
    pub user: String,
}

/// A parameter of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgParameter {
    /// The name of its type in SQL, where it is known; else the place where it stands decides, as for a literal.
    pub kind: Option<String>,
    /// Its value as text; `None` is null, or not known yet.
    pub value: Option<String>,
}

/// What a query takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgDescription {
    /// The types of its parameters.
    pub parameters: Vec<DataType>,
    /// Its columns.
    pub columns: SchemaRef,
}

/// Adds the catalog and its functions to a session that has its tables.
pub(super) fn prepare(context: &SessionContext, tables: &[(String, SchemaRef)], user: &str) -> Result<()> {
    catalog::register(context, tables, user)?;
    functions::register(context, tables, user);
    Ok(())
}

/// The plan of a query with its values, and the names of its columns where they are not the plan's own.
pub(super) async fn plan(
    context: &SessionContext,
    query: &PgQuery,
    tables: &[(String, SchemaRef)],
) -> Result<(LogicalPlan, Option<Vec<String>>)> {
    let known = query.parameters.iter().map(Some).collect::<Vec<_>>();
    plan_with(context, &query.sql, &known, tables).await
}

/// What a query takes and gives: of parameters without a type what the place says where they stand, else text.
pub(super) async fn describe(
    context: &SessionContext,
    query: &PgQuery,
    tables: &[(String, SchemaRef)],
) -> Result<PgDescription> {
    // Those of a known type stand as nulls of it; the others stay what they are.
    let known: Vec<Option<&PgParameter>> =
        query.parameters.iter().map(|parameter| Some(parameter).filter(|parameter| parameter.kind.is_some())).collect();
    let statement = parse(context, &query.sql)?;
    let count = rewrite::parameters_of(&statement).max(query.parameters.len()).min(usize::from(u16::MAX));
    let ((plan, names), inferred) = match plan_with(context, &query.sql, &known, tables).await {
        Ok(plan) => {
            let inferred = plan.0.get_parameter_types()?;
            (plan, inferred)
        }
        // Where a parameter stands in a place that tells no type, it is a null that fits.
        Err(error) => {
            let null = PgParameter::default();
            let nulls: Vec<_> = (0..count).map(|at| known.get(at).copied().flatten().or(Some(&null))).collect();
            let plan = plan_with(context, &query.sql, &nulls, tables).await.map_err(|_| error)?;
            (plan, Default::default())
        }
    };
    let kind = |at: usize| {
        let declared =
            query.parameters.get(at).and_then(|parameter| parameter.kind.as_deref()).and_then(types::of_name);
        declared.or_else(|| inferred.get(&format!("${}", at + 1)).cloned().flatten()).unwrap_or(DataType::Utf8)
    };
    let columns = Arc::new(Schema::new(plan.schema().fields().iter().map(Arc::clone).collect::<Vec<_>>()));
    let columns = names.map_or(Arc::clone(&columns), |names| renamed(&columns, &names));
    Ok(PgDescription { parameters: (0..count).map(kind).collect(), columns })
}

async fn plan_with(
    context: &SessionContext,
    sql: &str,
    parameters: &[Option<&PgParameter>],
    tables: &[(String, SchemaRef)],
) -> Result<(LogicalPlan, Option<Vec<String>>)> {
    let mut statement = parse(context, sql)?;
    let names = rewrite::names_of(&statement);
    rewrite::statement(&mut statement, parameters, tables)?;
    let plan = context.state().statement_to_plan(Statement::Statement(statement)).await?;
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&plan)?;
    Ok((plan, names))
}

/// The same columns with the names that PostgreSQL would give them: those of the plan are whole expressions, since they must differ.
pub(super) fn renamed(schema: &SchemaRef, names: &[String]) -> SchemaRef {
    if schema.fields().len() != names.len() {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().zip(names);
    Arc::new(Schema::new(fields.map(|(field, name)| field.as_ref().clone().with_name(name)).collect::<Vec<_>>()))
}

fn parse(context: &SessionContext, sql: &str) -> Result<Box<datafusion::sql::sqlparser::ast::Statement>> {
    match context.state().sql_to_statement(sql, &Dialect::PostgreSQL)? {
        Statement::Statement(statement) => Ok(statement),
        // Statements that DataFusion adds to SQL: files, settings.
        other => Err(DataFusionError::Plan(format!("Statement not supported: {other}"))),
    }
}

/// Types as the columns of a schema, for the way to the parent.
pub(super) fn as_schema(types: &[DataType]) -> Schema {
    Schema::new(types.iter().map(|kind| Field::new("", kind.clone(), true)).collect::<Vec<_>>())
}

/// A text as a literal of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// For functions: the text of a scalar or of a row.
fn text_of(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => text.clone(),
        value if value.is_null() => None,
        value => Some(value.to_string()),
    }
}
