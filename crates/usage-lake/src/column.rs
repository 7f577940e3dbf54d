//! Growing columns of one chunk. Rows are pushed here by value and become Arrow arrays all at once.
//!
//! Arrow's own builders do this too, one dispatch and one capacity check per value each; these are compiled with this crate
//! and keep a row of 33 columns well below a microsecond, also in the development profile.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// Texts one after another.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { bytes: Vec::new(), ends: vec![0] }
    }
}

impl Texts {
    #[inline]
    pub(crate) fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        // A chunk holds 2¹⁴ rows of texts that intake bounds to kilobytes: far below 2³¹ bytes.
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    fn array(self, nulls: Option<NullBuffer>) -> Result<StringArray, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        StringArray::try_new(offsets, Buffer::from_vec(self.bytes), nulls)
    }

    pub(crate) fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(self.array(None)?))
    }
}

/// Texts of which some are not there.
///
/// Spelled out, although most of them repeat: finding each row's text among those that are there cost three times as much as copying it,
/// on the one thread that everything waits for, and Parquet finds the repetitions again anyway.
#[derive(Debug, Clone, Default)]
pub(crate) struct OptionalTexts {
    texts: Texts,
    valid: Vec<bool>,
    has_nulls: bool,
}

impl OptionalTexts {
    #[inline]
    pub(crate) fn push(&mut self, text: Option<&str>) {
        self.valid.push(text.is_some());
        self.has_nulls |= text.is_none();
        self.texts.push(text.unwrap_or_default());
    }

    pub(crate) fn bytes_len(&self) -> usize {
        self.texts.bytes_len()
    }

    pub(crate) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.has_nulls.then(|| NullBuffer::from(self.valid));
        Ok(Arc::new(self.texts.array(nulls)?))
    }
}

/// Optional values of a fixed width.
#[derive(Debug, Clone, Default)]
pub(crate) struct Optional<T> {
    values: Vec<T>,
    valid: Vec<bool>,
    has_nulls: bool,
}

impl<T: Default> Optional<T> {
    #[inline]
    pub(crate) fn push(&mut self, value: Option<T>) {
        self.valid.push(value.is_some());
        self.has_nulls |= value.is_none();
        self.values.push(value.unwrap_or_default());
    }

    fn split(self) -> (Vec<T>, Option<NullBuffer>) {
        (self.values, self.has_nulls.then(|| NullBuffer::from(self.valid)))
    }
}

impl Optional<i128> {
    pub(crate) fn decimals(self, to: &DataType) -> Result<ArrayRef, ArrowError> {
        let (values, nulls) = self.split();
        Ok(Arc::new(Decimal128Array::try_new(values.into(), nulls)?.with_data_type(to.clone())))
    }
}

impl Optional<i64> {
    pub(crate) fn times(self) -> Result<ArrayRef, ArrowError> {
        let (values, nulls) = self.split();
        Ok(Arc::new(TimestampMicrosecondArray::try_new(values.into(), nulls)?.with_timezone("UTC")))
    }
}

pub(crate) fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

pub(crate) fn longs(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

pub(crate) fn ints(values: Vec<i32>) -> ArrayRef {
    Arc::new(Int32Array::from(values))
}

pub(crate) fn flags(values: Vec<bool>) -> ArrayRef {
    Arc::new(BooleanArray::from(values))
}
