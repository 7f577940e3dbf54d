//! Peeks at record batches without decoding them.
//!
//! A batch is stored byte for byte as the producer sent it. What the log must know (offsets, sequence numbers, timestamps,
//! CRC) stands at fixed places of the batch header (magic 2); what it must change (base offset, leader epoch) stands
//! before the part that the CRC covers. Only `message.timestamp.type=LogAppendTime` changes covered bytes, and then the CRC
//! is computed anew. Deliberately absent: record contents, except keys, which compaction and compacted topics need (see
//! [`crate::records`]), and message sets older than magic 2.

/// Bytes of a batch header; the records follow.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before the part that the batch length counts (base offset and the length itself).
const LENGTH_OVERHEAD_BYTES: usize = 12;
const LEADER_EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
/// Where the CRC's coverage starts: the attributes.
const CRC_FROM: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const MAX_TIMESTAMP_AT: usize = 35;
const COUNT_AT: usize = 57;
const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;

/// The header fields that the log works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub base_offset: i64,
    /// Whole batch, header included.
    pub size_bytes: usize,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; `None` when there are too few bytes or the length field is impossible.
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let length = i32_at(header, 8);
        let size_bytes = usize::try_from(length).ok()?.checked_add(LENGTH_OVERHEAD_BYTES)?;
        if size_bytes < HEADER_BYTES {
            return None;
        }
        Some(Self {
            base_offset: i64_at(header, 0),
            size_bytes,
            magic: header[16].cast_signed(),
            crc: i32_at(header, CRC_AT).cast_unsigned(),
            attributes: i16_at(header, CRC_FROM),
            last_offset_delta: i32_at(header, LAST_OFFSET_DELTA_AT),
            base_timestamp_ms: i64_at(header, 27),
            max_timestamp_ms: i64_at(header, MAX_TIMESTAMP_AT),
            producer_id: i64_at(header, 43),
            producer_epoch: i16_at(header, 51),
            base_sequence: i32_at(header, 53),
            record_count: i32_at(header, COUNT_AT),
        })
    }

    /// Offset of the last record. Compaction keeps it even when the record itself is gone.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequence number of the last record; sequence numbers wrap to 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        let sum = (i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX);
        i32::try_from(sum).unwrap_or(0)
    }

    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// The compression code in the attributes (0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd).
    pub fn compression_code(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }

    /// Whether the header could have been written by this log; says nothing about the CRC.
    pub fn is_plausible(&self) -> bool {
        self.magic == 2 && self.last_offset_delta >= 0 && self.record_count >= 0 && self.base_offset >= 0
    }
}

/// Whether the stored CRC matches; `batch` is one whole batch.
pub(crate) fn crc_matches(batch: &[u8]) -> bool {
    match BatchHeader::peek(batch) {
        Some(header) if header.size_bytes == batch.len() => crc32c::crc32c(&batch[CRC_FROM..]) == header.crc,
        _ => false,
    }
}

/// Sets the base offset, and the leader epoch to 0 (there is one broker, and it never changes).
pub(crate) fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&0_i32.to_be_bytes());
}

/// Stamps the batch with the log's append time, which changes bytes under the CRC.
pub(crate) fn set_log_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes([batch[CRC_FROM], batch[CRC_FROM + 1]]) | LOG_APPEND_TIME_BIT;
    batch[CRC_FROM..CRC_FROM + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now_ms.to_be_bytes());
    set_crc(batch);
}

/// A batch with the header of `original` (offsets, producer, timestamps), but other, uncompressed records.
///
/// The last offset delta stays, so that offsets and sequence numbers derived from the header stay true after compaction.
pub(crate) fn with_records(original: &[u8], records: &[u8], record_count: i32) -> Vec<u8> {
    let mut batch = Vec::with_capacity(HEADER_BYTES + records.len());
    batch.extend_from_slice(&original[..HEADER_BYTES]);
    batch.extend_from_slice(records);
    let length = i32::try_from(batch.len() - LENGTH_OVERHEAD_BYTES).unwrap_or(i32::MAX);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let attributes = i16::from_be_bytes([batch[CRC_FROM], batch[CRC_FROM + 1]]) & !COMPRESSION_MASK;
    batch[CRC_FROM..CRC_FROM + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[COUNT_AT..COUNT_AT + 4].copy_from_slice(&record_count.to_be_bytes());
    set_crc(&mut batch);
    batch
}

fn set_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

fn i16_at(header: &[u8; HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes([header[at], header[at + 1]])
}

fn i32_at(header: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn i64_at(header: &[u8; HEADER_BYTES], at: usize) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    i64::from_be_bytes(bytes)
}
