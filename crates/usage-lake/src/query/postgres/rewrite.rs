//! Spellings of PostgreSQL that DataFusion does not know, said in a way that it does; and parameters, which become literals.

use std::ops::ControlFlow;

use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, Function, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query,
    SelectItem, SetExpr, Statement, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::catalog::EMPTY;
use super::functions::oid_of;
use super::{PgParameter, literal, types};

/// Tables of `pg_catalog` that have rows.
const FULL: [&str; 13] = [
    "pg_am",
    "pg_attribute",
    "pg_class",
    "pg_database",
    "pg_get_keywords",
    "pg_namespace",
    "pg_roles",
    "pg_settings",
    "pg_tables",
    "pg_tablespace",
    "pg_type",
    "pg_user",
    "pg_views",
];

/// Rewrites a statement, with the parameters whose values are known.
pub(super) fn statement(
    statement: &mut Statement,
    parameters: &[Option<&PgParameter>],
    tables: &[(String, SchemaRef)],
) -> Result<()> {
    let tables = tables.iter().map(|(name, _)| name.clone()).collect();
    let mut rewriter = Rewriter { parameters, tables };
    match statement.visit(&mut rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The names of a statement's columns, as PostgreSQL gives them to what has none; none where a `*` stands for several.
pub(super) fn names_of(statement: &Statement) -> Option<Vec<String>> {
    fn select(body: &SetExpr) -> Option<&[SelectItem]> {
        match body {
            SetExpr::Select(found) => Some(&found.projection),
            SetExpr::SetOperation { left, .. } => select(left),
            SetExpr::Query(query) => select(&query.body),
            _ => None,
        }
    }
    fn name(expr: &Expr) -> String {
        let last = |name: &ObjectName| name.0.last().and_then(|name| name.as_ident()).map(folded);
        match expr {
            Expr::Identifier(name) => folded(name),
            Expr::CompoundIdentifier(names) => names.last().map_or("?column?".to_owned(), folded),
            Expr::Function(function) => last(&function.name).unwrap_or("?column?".to_owned()),
            Expr::Cast { expr, .. } | Expr::Nested(expr) | Expr::Collate { expr, .. } => name(expr),
            Expr::Case { .. } => "case".to_owned(),
            Expr::Extract { .. } => "extract".to_owned(),
            Expr::Array(_) => "array".to_owned(),
            Expr::Exists { .. } => "exists".to_owned(),
            _ => "?column?".to_owned(),
        }
    }
    fn folded(name: &Ident) -> String {
        if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
    }
    let Statement::Query(query) = statement else { return None };
    let of = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) => Some(name(expr)),
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        _ => None,
    };
    select(&query.body)?.iter().map(of).collect()
}

/// The highest number of a parameter.
pub(super) fn parameters_of(statement: &Statement) -> usize {
    struct Highest(usize);
    impl Visitor for Highest {
        type Break = ();
        fn pre_visit_value(&mut self, value: &datafusion::sql::sqlparser::ast::ValueWithSpan) -> ControlFlow<()> {
            if let Value::Placeholder(name) = &value.value {
                self.0 = self.0.max(name.trim_start_matches('$').parse().unwrap_or(0));
            }
            ControlFlow::Continue(())
        }
    }
    let mut highest = Highest(0);
    let _never = statement.visit(&mut highest);
    highest.0
}

struct Rewriter<'p> {
    parameters: &'p [Option<&'p PgParameter>],
    tables: Vec<String>,
}

impl VisitorMut for Rewriter<'_> {
    type Break = DataFusionError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            distinguish(&mut select.projection);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Self::Break> {
        // PostgreSQL looks into its catalog before everything else.
        if let [name] = relation.0.as_slice()
            && let Some(name) = name.as_ident().map(|name| name.value.to_ascii_lowercase())
            && (FULL.contains(&name.as_str()) || is_empty_table(&name))
        {
            relation.0.insert(0, ObjectNamePart::Identifier(Ident::new("pg_catalog")));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table { name, args, .. } = factor
            && args.is_some()
            && name.0.last().and_then(|name| name.as_ident()).is_some_and(|name| name.value == "pg_get_keywords")
        {
            // A table here.
            *args = None;
        }
        // Functions have no schema here.
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = factor {
            strip_schema(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let new = match expr {
            // However it is written: a list of the schemas in the search path.
            Expr::InSubquery { expr, subquery, negated } if subquery.to_string().contains("search_path") => {
                Some(format!("({expr} {}IN ('public'))", if *negated { "NOT " } else { "" }))
            }
            Expr::Subquery(query) if is_of_empty_table(query) => Some("CAST(NULL AS TEXT)".to_owned()),
            Expr::Subquery(query) => {
                at_most_one_row(query);
                None
            }
            Expr::Function(Function { name, args: FunctionArguments::Subquery(query), .. })
                if name.to_string().eq_ignore_ascii_case("array") && !self.has_view(query) =>
            {
                // Of options, members and the like, of which there are none.
                Some("CAST(NULL AS TEXT)".to_owned())
            }
            Expr::Exists { subquery, negated } if is_of_empty_table(subquery) => Some(negated.to_string()),
            _ => None,
        };
        self.replace(expr, new)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let new = match expr {
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => match self.parameter(name) {
                    Ok(text) => text,
                    Err(error) => return ControlFlow::Break(error),
                },
                _ => None,
            },
            Expr::Collate { expr, .. } => Some(expr.to_string()),
            Expr::Identifier(name)
                if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("localtimestamp") =>
            {
                Some("CAST(now() AS TIMESTAMP)".to_owned())
            }
            // A backslash is the one that there is.
            Expr::Like { negated, expr, pattern, escape_char: Some(escape), any: false }
                if escape.to_string() != r"'\'" =>
            {
                let not = if *negated { "NOT " } else { "" };
                Some(format!(r"({expr} {not}LIKE replace({pattern}, {escape}, '\'))"))
            }
            // A field of a row.
            Expr::CompoundFieldAccess { root, access_chain } => match access_chain.as_slice() {
                [AccessExpr::Dot(Expr::Identifier(field))] => {
                    Some(format!("get_field({root}, {})", literal(&field.value)))
                }
                _ => None,
            },
            Expr::Function(function) => self.function(function),
            Expr::BinaryOp { left, op: BinaryOperator::PGCustomBinaryOperator(parts), right } => {
                parts.last().map(|operator| format!("({left} {operator} {right})"))
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. }
                if !matches!(**right, Expr::Subquery(_)) =>
            {
                Some(format!("array_has({}, {left})", array(right)))
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } if !matches!(**right, Expr::Subquery(_)) => {
                Some(format!("(NOT array_has({}, {left}))", array(right)))
            }
            Expr::Cast { expr, data_type, .. } => self.cast(expr, data_type),
            _ => None,
        };
        self.replace(expr, new)
    }
}

impl Rewriter<'_> {
    fn replace(&self, expr: &mut Expr, new: Option<String>) -> ControlFlow<DataFusionError> {
        let Some(new) = new else { return ControlFlow::Continue(()) };
        let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(&new).and_then(|mut parser| parser.parse_expr());
        match parsed {
            Ok(parsed) => {
                *expr = parsed;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(DataFusionError::Plan(format!("`{new}`: {error}"))),
        }
    }

    /// A parameter as a literal: of its type where that is known, else one that takes the type of its place.
    fn parameter(&self, name: &str) -> Result<Option<String>> {
        let number: usize = name.trim_start_matches('$').parse().unwrap_or(0);
        let parameter = match self.parameters.get(number.wrapping_sub(1)) {
            // To be described: it stays.
            Some(None) => return Ok(None),
            None if self.parameters.iter().all(Option::is_none) => return Ok(None),
            Some(Some(parameter)) => parameter,
            None => return Err(DataFusionError::Plan(format!("there is no parameter {name}"))),
        };
        let kind = parameter.kind.as_deref().and_then(types::by_name);
        let Some(value) = &parameter.value else {
            return Ok(Some(kind.map_or("NULL".to_owned(), |kind| format!("CAST(NULL AS {})", kind.sql_name))));
        };
        Ok(Some(match kind {
            // As a bare number, so that it can stand after LIMIT, too.
            Some(kind) if matches!(kind.oid, 20 | 21 | 23 | 26) && value.trim().parse::<i64>().is_ok() => {
                let value = value.trim();
                if value.starts_with('-') { format!("({value})") } else { value.to_owned() }
            }
            Some(kind) if kind.oid != 25 && kind.oid != 17 => {
                // As exact as it was sent.
                let digits = value.split_once('.').map_or(0, |(_, fraction)| fraction.len().min(37));
                let to = if kind.oid == 1700 { format!("decimal(38,{digits})") } else { kind.sql_name.to_owned() };
                format!("CAST({} AS {to})", literal(value))
            }
            _ => literal(value),
        }))
    }

    /// Whether a query names a view.
    fn has_view(&self, query: &Query) -> bool {
        let text = query.to_string();
        self.tables.iter().any(|table| text.contains(table.as_str()))
    }

    fn function(&self, function: &mut Function) -> Option<String> {
        strip_schema(&mut function.name);
        let name = function.name.0.last()?.as_ident()?.value.to_ascii_lowercase();
        let arguments = || match &function.args {
            FunctionArguments::List(list) => list.args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            _ => String::new(),
        };
        match (name.as_str(), &function.args) {
            // A column of ours; who asks is `current_user`.
            ("user", FunctionArguments::None) => Some("\"user\"".to_owned()),
            (
                "current_user" | "session_user" | "current_role" | "current_catalog" | "current_schema",
                FunctionArguments::None,
            ) => Some(format!("{name}()")),
            ("localtimestamp", FunctionArguments::None) => Some("CAST(now() AS TIMESTAMP)".to_owned()),
            // PostgreSQL's patterns of ISO 8601, which a cast reads.
            ("to_timestamp" | "to_date", FunctionArguments::List(list)) => match list.args.as_slice() {
                [text, pattern] if is_iso(&pattern.to_string()) => {
                    let kind = if name == "to_date" { "DATE" } else { "TIMESTAMPTZ" };
                    Some(format!("CAST({text} AS {kind})"))
                }
                _ => None,
            },
            // Both count from one.
            ("array_upper", _) => Some(format!("CAST(array_length({}) AS BIGINT)", arguments())),
            ("array_lower", _) => Some(format!("(CASE WHEN array_length({}) > 0 THEN 1 END)", arguments())),
            _ => None,
        }
    }

    fn cast(&self, expr: &Expr, to: &DataType) -> Option<String> {
        let name = match to {
            DataType::Regclass => "regclass".to_owned(),
            DataType::JSON | DataType::JSONB | DataType::Uuid => return Some(format!("CAST({expr} AS TEXT)")),
            DataType::Custom(name, _) => name.0.last()?.as_ident()?.value.to_ascii_lowercase(),
            _ => return None,
        };
        let text = if let Expr::Value(value) = expr
            && let Value::SingleQuotedString(text) = &value.value
        {
            Some(text.as_str())
        } else {
            None
        };
        Some(match (name.as_str(), text) {
            ("regclass", Some(text)) if text.parse::<i64>().is_err() => {
                // Those of the catalog itself are asked for to compare with `classoid`, of which there is none.
                oid_of(text, &self.tables).map_or("0".to_owned(), |oid| oid.to_string())
            }
            ("regclass", _) => format!("regclass_text({expr})"),
            ("regtype", Some(text)) if text.parse::<i64>().is_err() => {
                types::by_name(text).map_or("0".to_owned(), |kind| kind.oid.to_string())
            }
            ("regtype", _) => format!("format_type({expr}, -1)"),
            ("oid" | "xid" | "cid", _) => format!("CAST({expr} AS BIGINT)"),
            (
                "name" | "char" | "text" | "cstring" | "regproc" | "regprocedure" | "regnamespace" | "regrole"
                | "regoper" | "citext",
                _,
            ) => {
                format!("CAST({expr} AS TEXT)")
            }
            ("int2" | "int4" | "int8" | "bool" | "float4" | "float8" | "numeric" | "varchar", _) => {
                format!("CAST({expr} AS {name})")
            }
            _ => return None,
        })
    }
}

/// Names that are told apart: PostgreSQL lets several columns have the same.
fn distinguish(projection: &mut [SelectItem]) {
    let mut seen = std::collections::HashSet::new();
    for (at, item) in projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) = item
            && !seen.insert(expr.to_string())
        {
            let (expr, alias) = (expr.clone(), Ident::with_quote('"', format!("?column?{at}")));
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
    }
}

/// A look into the catalog by a key finds one row at most, which the planner does not know: it takes the greatest of one.
fn at_most_one_row(query: &mut Query) {
    let is_of_catalog = |factor: &TableFactor| match factor {
        TableFactor::Table { name, args: None, .. } => {
            let name = name.0.last().and_then(|name| name.as_ident()).map(|name| name.value.to_ascii_lowercase());
            name.is_some_and(|name| FULL.contains(&name.as_str()) || is_empty_table(&name))
        }
        _ => false,
    };
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let are_of_catalog = select.from.iter().all(|from| is_of_catalog(&from.relation));
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_mut_slice()
    else {
        return;
    };
    let text = expr.to_string();
    let is_aggregate =
        ["max(", "min(", "sum(", "count(", "_agg("].iter().any(|name| text.to_ascii_lowercase().contains(name));
    if !are_of_catalog || select.from.is_empty() || is_aggregate {
        return;
    }
    let greatest = Parser::new(&PostgreSqlDialect {}).try_with_sql(&format!("max({text})"));
    if let Ok(greatest) = greatest.and_then(|mut parser| parser.parse_expr()) {
        *expr = greatest;
        query.order_by = None;
        query.limit_clause = None;
    }
}

/// An array that may be written as a text, like `'{r,v}'`.
fn array(expr: &Expr) -> String {
    if let Expr::Cast { expr, data_type: DataType::Array(_), .. } = expr {
        return array(expr);
    }
    if let Expr::Value(value) = expr
        && let Value::SingleQuotedString(text) = &value.value
        && let Some(items) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'))
    {
        let items: Vec<&str> =
            items.split(',').filter(|item| !item.is_empty()).map(|item| item.trim_matches('"')).collect();
        // Numbers, where all of them are.
        let are_numbers = items.iter().all(|item| item.parse::<i64>().is_ok());
        let items: Vec<String> =
            items.iter().map(|item| if are_numbers { (*item).to_owned() } else { literal(item) }).collect();
        return format!("ARRAY[{}]", items.join(", "));
    }
    expr.to_string()
}

/// Whether a pattern of `to_timestamp` or `to_date` says year, month, day and time in this order.
fn is_iso(pattern: &str) -> bool {
    let pattern = pattern.trim_matches('\'').to_ascii_uppercase().replace('T', " ");
    let times = ["", " HH24:MI:SS", " HH24:MI:SS.US", " HH24:MI:SS.MS"];
    pattern.strip_prefix("YYYY-MM-DD").is_some_and(|time| times.contains(&time))
}

fn strip_schema(name: &mut ObjectName) {
    if let [schema, _] = name.0.as_slice()
        && schema.as_ident().is_some_and(|schema| schema.value == "pg_catalog" || schema.value == "information_schema")
    {
        name.0.remove(0);
    }
}

fn is_empty_table(name: &str) -> bool {
    EMPTY.iter().any(|(table, _)| *table == name)
}

/// Whether a query begins with a table that never has rows, so that it has none either.
fn is_of_empty_table(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let Some(TableFactor::Table { name, args: None, .. }) = select.from.first().map(|from| &from.relation) else {
        return false;
    };
    let name = name.0.last().and_then(|name| name.as_ident()).map(|name| name.value.to_ascii_lowercase());
    name.is_some_and(|name| is_empty_table(&name))
        && select.having.is_none()
        && !query.to_string().to_ascii_lowercase().contains("count(")
}
