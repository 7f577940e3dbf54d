//! Walks the records of a batch as far as keys and timestamps go.
//!
//! Compaction must drop single records and leave all others byte for byte as they were, with repeated headers in their order.
//! `kafka-protocol` decodes headers into a map, which loses repeats, and derives offsets anew when it encodes; so the records
//! are cut at their lengths here. Headers and values are never looked at beyond "is there a value".

use std::io::{self, Read};

use bytes::Bytes;
use kafka_protocol::compression::{Decompressor, Snappy};

use crate::batch::{BatchHeader, HEADER_BYTES};

/// Records of one batch may become so large, far above what an honest batch of the default 1 MiB does. `kafka-protocol` sets no
/// limit, which is why only snappy, whose length is known beforehand, is left to it.
const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;
/// Starts what snappy-java writes; two version numbers follow, then blocks.
const SNAPPY_JAVA_MAGIC: &[u8] = b"\x82SNAPPY\0";

/// Why records could not be read; the producer sent them so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    #[error("unknown compression code {0}; use gzip, snappy, lz4 or zstd")]
    Compression(i16),
    #[error("the records do not decompress: {0}")]
    Corrupt(String),
    #[error("the records decompress to more than 128 MiB; send smaller batches")]
    TooLarge,
    #[error("the records of the batch are malformed")]
    Malformed,
}

/// One record within its batch.
pub(crate) struct Record<'a> {
    /// The whole record, its length included, to be copied as it is.
    pub raw: &'a [u8],
    pub offset: i64,
    /// As the producer gave it, without regard to append time.
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub has_value: bool,
}

/// The record bytes of a batch, decompressed; at most [`DECOMPRESSED_BYTES_MAX`].
pub(crate) fn decompressed(batch: &Bytes, header: &BatchHeader) -> Result<Bytes, RecordsError> {
    let mut compressed = batch.slice(HEADER_BYTES.min(batch.len())..);
    match header.compression_code() {
        0 => Ok(compressed),
        1 => read_all(flate2::read::MultiGzDecoder::new(&compressed[..])),
        2 => {
            if snappy_len(&compressed).ok_or(RecordsError::Malformed)? > DECOMPRESSED_BYTES_MAX {
                return Err(RecordsError::TooLarge);
            }
            let records = Snappy::decompress(&mut compressed, |records: &mut Bytes| Ok(std::mem::take(records)));
            records.map_err(|error| RecordsError::Corrupt(error.to_string()))
        }
        3 => read_all(lz4::Decoder::new(&compressed[..]).map_err(corrupt)?),
        4 => read_all(zstd::stream::read::Decoder::new(&compressed[..]).map_err(corrupt)?),
        other => Err(RecordsError::Compression(other)),
    }
}

fn read_all(decoder: impl Read) -> Result<Bytes, RecordsError> {
    let mut records = Vec::new();
    let limit = DECOMPRESSED_BYTES_MAX as u64 + 1;
    decoder.take(limit).read_to_end(&mut records).map_err(corrupt)?;
    if records.len() > DECOMPRESSED_BYTES_MAX {
        return Err(RecordsError::TooLarge);
    }
    Ok(Bytes::from(records))
}

/// How long snappy data says it becomes, raw or in the blocks of snappy-java; the decoder reserves that before it looks further.
fn snappy_len(compressed: &[u8]) -> Option<usize> {
    let Some(mut blocks) = compressed.strip_prefix(SNAPPY_JAVA_MAGIC).and_then(|rest| rest.get(8..)) else {
        return snap::raw::decompress_len(compressed).ok();
    };
    let mut total: usize = 0;
    while let Some((length, rest)) = blocks.split_first_chunk() {
        let (block, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        total = total.saturating_add(snap::raw::decompress_len(block).ok()?);
        blocks = rest;
    }
    Some(total)
}

fn corrupt(error: io::Error) -> RecordsError {
    RecordsError::Corrupt(error.to_string())
}

/// Calls `visit` with each record until it returns false.
pub(crate) fn walk<'a>(
    records: &'a [u8],
    header: &BatchHeader,
    mut visit: impl FnMut(Record<'a>) -> bool,
) -> Result<(), RecordsError> {
    let mut rest = records;
    for _ in 0..header.record_count {
        let mut cursor = Cursor(rest);
        let length = cursor.varint()?;
        let body = cursor.take(length)?;
        let raw = &rest[..rest.len() - cursor.0.len()];
        rest = cursor.0;
        if !visit(record(raw, body, header)?) {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether every record has a key; also an error when the records cannot be read at all.
pub(crate) fn all_have_keys(batch: &Bytes, header: &BatchHeader) -> Result<bool, RecordsError> {
    let records = decompressed(batch, header)?;
    let mut all = true;
    walk(&records, header, |record| {
        all = record.key.is_some();
        all
    })?;
    Ok(all)
}

/// Offset and timestamp of the first record at or after `timestamp_ms`.
pub(crate) fn find_timestamp(batch: &Bytes, timestamp_ms: i64) -> Result<Option<(i64, i64)>, RecordsError> {
    let header = BatchHeader::peek(batch).ok_or(RecordsError::Malformed)?;
    if header.is_log_append_time() {
        let found = header.max_timestamp_ms >= timestamp_ms;
        return Ok(found.then_some((header.base_offset, header.max_timestamp_ms)));
    }
    let records = decompressed(batch, &header)?;
    let mut found = None;
    walk(&records, &header, |record| {
        if record.timestamp_ms >= timestamp_ms {
            found = Some((record.offset, record.timestamp_ms));
        }
        found.is_none()
    })?;
    Ok(found)
}

fn record<'a>(raw: &'a [u8], body: &'a [u8], header: &BatchHeader) -> Result<Record<'a>, RecordsError> {
    let mut cursor = Cursor(body);
    cursor.take(1)?; // Attributes, unused by Kafka.
    let timestamp_delta = cursor.varint()?;
    let offset_delta = cursor.varint()?;
    if !(0..=i64::from(header.last_offset_delta)).contains(&offset_delta) {
        return Err(RecordsError::Malformed);
    }
    let key_length = cursor.varint()?;
    let key = if key_length < 0 { None } else { Some(cursor.take(key_length)?) };
    let has_value = cursor.varint()? >= 0;
    Ok(Record {
        raw,
        offset: header.base_offset + offset_delta,
        timestamp_ms: header.base_timestamp_ms.saturating_add(timestamp_delta),
        key,
        has_value,
    })
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: i64) -> Result<&'a [u8], RecordsError> {
        let length = usize::try_from(length).map_err(|_| RecordsError::Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordsError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A zigzag number of up to 64 bits.
    fn varint(&mut self) -> Result<i64, RecordsError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(RecordsError::Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        Err(RecordsError::Malformed)
    }
}
