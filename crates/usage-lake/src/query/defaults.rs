//! Columns that a file was written without: in SQL they hold the same defaults as when rows are read back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory, replace_columns_with_literals,
};
use datafusion::physical_plan::PhysicalExpr;

use crate::schema::{ScalarDefault, default_of};

/// Makes adapters that fill in our defaults, and leave the rest to DataFusion's own.
#[derive(Debug)]
pub(super) struct WithDefaults;

#[derive(Debug)]
struct Adapter {
    defaults: HashMap<String, ScalarValue>,
    then: Arc<dyn PhysicalExprAdapter>,
}

impl PhysicalExprAdapterFactory for WithDefaults {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let missing = logical.fields().iter().filter(|field| physical.column_with_name(field.name()).is_none());
        let default = |value| match value {
            ScalarDefault::Text(text) => ScalarValue::Utf8View(Some(text.to_owned())),
            ScalarDefault::Long(value) => ScalarValue::Int64(Some(value)),
        };
        let defaults =
            missing.filter_map(|field| Some((field.name().clone(), default(default_of(field.name())?)))).collect();
        let then = DefaultPhysicalExprAdapterFactory.create(logical, physical)?;
        Ok(Arc::new(Adapter { defaults, then }))
    }
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expression: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let filled = if self.defaults.is_empty() {
            expression
        } else {
            replace_columns_with_literals(expression, &self.defaults)?
        };
        self.then.rewrite(filled)
    }
}
