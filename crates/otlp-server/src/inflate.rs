//! Decompression that stops at a limit: a few kilobytes can stand for gigabytes.

use std::io::Read;

use bytes::Bytes;

use crate::failure::Failure;

/// The largest window that a zstd frame may ask for, as a power of two: 8 MiB, what zstd's own tools take by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Decompresses a body by its `Content-Encoding`, into at most `bytes_max`.
pub(crate) fn inflate(body: Bytes, encoding: &str, bytes_max: usize) -> Result<Bytes, Failure> {
    match encoding.to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => read(flate2::read::MultiGzDecoder::new(&body[..]), bytes_max),
        "deflate" => read(flate2::read::ZlibDecoder::new(&body[..]), bytes_max),
        "zstd" => {
            let mut decoder = zstd::Decoder::with_buffer(&body[..]).map_err(|error| broken(&error))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| broken(&error))?;
            read(decoder, bytes_max)
        }
        other => Err(Failure::Unsupported(format!(
            "the content encoding {other:?} is not read here; send gzip, deflate, zstd or none"
        ))),
    }
}

fn read(decoder: impl Read, bytes_max: usize) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(limit).read_to_end(&mut bytes).map_err(|error| broken(&error))?;
    if bytes.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(bytes.into())
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::Unreadable(format!("the body cannot be decompressed: {error}; send it again, or without compression"))
}

pub(crate) fn too_large(bytes_max: usize) -> Failure {
    let message = format!("the body has more than {bytes_max} bytes; set a smaller batch size in the exporter");
    Failure::TooLarge(message)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn zlib(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn every_encoding_gives_the_body_back_up_to_the_limit() {
        let body = vec![7_u8; 100_000];
        let zstd = |bytes: &[u8]| Bytes::from(zstd::encode_all(bytes, 0).unwrap());
        for (encoding, packed) in
            [("gzip", gzip(&body)), ("GZIP", gzip(&body)), ("deflate", zlib(&body)), ("zstd", zstd(&body))]
        {
            assert!(packed.len() < 2_000, "{encoding}");
            assert_eq!(inflate(packed.clone(), encoding, 100_000).unwrap(), body, "{encoding}");
            assert_eq!(inflate(packed, encoding, 99_999), Err(too_large(99_999)), "{encoding}");
        }
        assert_eq!(inflate(Bytes::from(body.clone()), "identity", 1).unwrap(), body);
        assert!(matches!(inflate(Bytes::new(), "br", 1), Err(Failure::Unsupported(_))));
        for encoding in ["gzip", "deflate", "zstd"] {
            assert!(
                matches!(inflate(Bytes::from_static(b"no"), encoding, 9), Err(Failure::Unreadable(_))),
                "{encoding}"
            );
        }
    }

    #[test]
    fn a_zstd_frame_that_asks_for_a_huge_window_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![7; 1000]).unwrap();
        encoder.flush().unwrap();
        encoder.write_all(&vec![7; 1000]).unwrap();
        let packed = Bytes::from(encoder.finish().unwrap());
        assert!(matches!(inflate(packed, "zstd", 1 << 20), Err(Failure::Unreadable(_))));
    }
}
