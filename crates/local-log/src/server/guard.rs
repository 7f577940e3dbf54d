//! Refuses requests whose element counts cannot be true, before they are decoded.
//!
//! The decoder of `kafka-protocol` reserves memory for as many elements as a request announces. A few malformed bytes announce
//! two thousand million, and the failed allocation would end the whole process. So each request is decoded twice: first
//! through [`Guarded`], which lowers every length that exceeds the bytes that are left to just above them. An array so announced
//! must then fail (each element takes one byte at least), and an honest request, whose structure never
//! depends on such a number, decodes. Only then is it decoded in earnest.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

/// Decodes a request body; `None` when it is malformed.
pub(crate) fn decode<T: Decodable>(body: &Bytes, version: i16) -> Option<T> {
    T::decode(&mut Guarded::new(body.clone()), version).ok()?;
    T::decode(&mut body.clone(), version).ok()
}

/// A buffer that never yields a length much greater than what it still holds.
struct Guarded {
    bytes: Bytes,
    /// What is left of a number that was lowered; the bytes it stands for are skipped as these are taken.
    substitute: [u8; VARINT_BYTES_MAX],
    substitute_left: usize,
    /// Bytes that still belong to a variable-length number that was found small enough.
    varint_left: usize,
}

/// Of an unsigned 32-bit number.
const VARINT_BYTES_MAX: usize = 5;

impl Guarded {
    fn new(bytes: Bytes) -> Self {
        Self { bytes, substitute: [0; VARINT_BYTES_MAX], substitute_left: 0, varint_left: 0 }
    }

    /// Looks at the variable-length number at the front, and prepares a lower one of the same length if it is too great.
    fn look_at_varint(&mut self) {
        let mut value = 0_u64;
        let mut length = 0;
        for byte in self.bytes.iter().take(VARINT_BYTES_MAX) {
            value |= u64::from(byte & 0x7f) << (7 * length);
            length += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let left = self.bytes.len().saturating_sub(length) as u64;
        // Compact lengths are stored plus one, so this announces one more than there is.
        let mut lowered = left + 2;
        if value <= lowered {
            self.varint_left = length;
            return;
        }
        for at in 0..length {
            let more = if at + 1 < length { 0x80 } else { 0 };
            self.substitute[VARINT_BYTES_MAX - length + at] = (lowered & 0x7f).to_le_bytes()[0] | more;
            lowered >>= 7;
        }
        self.substitute_left = length;
    }
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let value = self.bytes.try_get_i32()?;
        let left = i32::try_from(self.bytes.len()).unwrap_or(i32::MAX - 1);
        Ok(value.min(left + 1))
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        if self.substitute_left == 0 && self.varint_left == 0 {
            self.look_at_varint();
        }
        let byte = self.bytes.try_get_u8()?;
        if self.substitute_left > 0 {
            self.substitute_left -= 1;
            return Ok(self.substitute[VARINT_BYTES_MAX - 1 - self.substitute_left]);
        }
        self.varint_left -= 1;
        Ok(byte)
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.bytes.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::{MetadataRequest, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    fn metadata_request(version: i16) -> Bytes {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str("events"))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic; 300]));
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        body.freeze()
    }

    #[test]
    fn honest_requests_decode_in_both_encodings() {
        for version in [0, 8, 9, 12] {
            let decoded: MetadataRequest = decode(&metadata_request(version), version).unwrap();
            assert_eq!(decoded.topics.unwrap().len(), 300, "version {version}");
        }
    }

    #[test]
    fn announcing_two_thousand_million_elements_is_refused_without_reserving_memory() {
        let mut plain = BytesMut::new();
        plain.put_i32(i32::MAX);
        plain.put_slice(&[0; 16]);
        assert!(decode::<MetadataRequest>(&plain.freeze(), 8).is_none());
        let compact = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1, 1, 1, 1]);
        assert!(decode::<MetadataRequest>(&compact, 12).is_none());
    }

    #[test]
    fn cut_off_requests_are_refused() {
        for version in [8, 12] {
            let whole = metadata_request(version);
            for length in 0..whole.len() - 4 {
                assert!(decode::<MetadataRequest>(&whole.slice(..length), version).is_none(), "{version} {length}");
            }
        }
    }
}
