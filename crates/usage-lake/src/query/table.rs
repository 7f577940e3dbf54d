//! A table of a query: chosen Parquet files and rows in memory, as one scan.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use usage_types::TimeUs;

use super::cast_batch;
use super::defaults::WithDefaults;
use crate::LakeError;
use crate::datafile::FileRef;
use crate::schema::with_texts_as;

/// Files and rows under one schema, with texts as views.
#[derive(Debug)]
pub(super) struct LakeTable {
    schema: SchemaRef,
    store: ObjectStoreUrl,
    files: Vec<PartitionedFile>,
    rows: Vec<RecordBatch>,
}

impl LakeTable {
    /// `memory_schema` is the schema of `rows`; the files' paths are relative to `store`.
    pub(super) fn new(
        memory_schema: &SchemaRef,
        store: ObjectStoreUrl,
        files: &[FileRef],
        rows: &[RecordBatch],
    ) -> Result<Self, LakeError> {
        let schema = with_texts_as(memory_schema, &DataType::Utf8View);
        let rows = rows.iter().map(|batch| cast_batch(batch, &schema)).collect::<Result<_, _>>()?;
        let files = files.iter().map(|file| partitioned_file(file, &schema)).collect();
        Ok(Self { schema, store, files, rows })
    }
}

/// With the statistics that the log has, so that files are skipped without being opened.
fn partitioned_file(file: &FileRef, schema: &SchemaRef) -> PartitionedFile {
    let mut statistics = Statistics::new_unknown(schema);
    // A count of 0 is what a log without statistics looks like.
    if let Some(rows) = usize::try_from(file.rows).ok().filter(|rows| *rows > 0) {
        statistics.num_rows = Precision::Exact(rows);
    }
    statistics.column_statistics =
        schema.fields().iter().map(|field| column_statistics(&file.times, field.name(), field.data_type())).collect();
    PartitionedFile::new(file.path.clone(), file.size_bytes).with_statistics(Arc::new(statistics))
}

fn column_statistics(times: &BTreeMap<String, (TimeUs, TimeUs)>, name: &str, kind: &DataType) -> ColumnStatistics {
    let mut statistics = ColumnStatistics::new_unknown();
    if let (Some((earliest, latest)), DataType::Timestamp(TimeUnit::Microsecond, zone)) = (times.get(name), kind) {
        // Inexact: they bound the values, but were rounded, so `max(time)` must not be answered from them.
        let scalar = |time: &TimeUs| ScalarValue::TimestampMicrosecond(Some(time.0), zone.clone());
        statistics.min_value = Precision::Inexact(scalar(earliest));
        statistics.max_value = Precision::Inexact(scalar(latest));
    }
    statistics
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters choose files and row groups; DataFusion evaluates them again on every row.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !self.files.is_empty() {
            let source = Arc::new(ParquetSource::new(Arc::clone(&self.schema)));
            let groups = FileGroup::new(self.files.clone()).split_files(state.config().target_partitions());
            let config = FileScanConfigBuilder::new(self.store.clone(), source)
                .with_file_groups(groups)
                .with_projection_indices(projection.cloned())?
                .with_expr_adapter(Some(Arc::new(WithDefaults)))
                .build();
            parts.push(DataSourceExec::from_data_source(config));
        }
        if !self.rows.is_empty() || parts.is_empty() {
            let rows = std::slice::from_ref(&self.rows);
            parts.push(MemorySourceConfig::try_new_exec(rows, self.schema(), projection.cloned())?);
        }
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}
