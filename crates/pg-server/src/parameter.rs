//! Values of parameters as texts that SQL reads, from either form.

use crate::encode::{EPOCH_DAYS, EPOCH_US, timestamp};
use crate::types::state;
use crate::{ParameterType, PgError, numeric};

/// The text of a value; `kind` is what the client said of it, or was told.
pub(crate) fn text(kind: Option<ParameterType>, is_binary: bool, bytes: &[u8]) -> Result<String, PgError> {
    let plain = || {
        let text = String::from_utf8(bytes.to_vec());
        text.map_err(|_| PgError::new("22021", "a parameter is not UTF-8"))
    };
    if !is_binary {
        return plain();
    }
    let Some(kind) = kind else {
        let error = PgError::new(state::INVALID_BINARY, "a parameter came in binary form and without its type");
        return Err(error.hint("say its type when the statement is prepared, or send it as text"));
    };
    let wrong = || PgError::new(state::INVALID_BINARY, format!("a binary {} has {} bytes", kind.name(), bytes.len()));
    Ok(match kind {
        ParameterType::Text => plain()?,
        ParameterType::Bool => (fixed::<1>(bytes).ok_or_else(wrong)? != [0]).to_string(),
        ParameterType::Int2 => i16::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).to_string(),
        ParameterType::Int4 => i32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).to_string(),
        // Also numbers of objects, which have four bytes.
        ParameterType::Int8 if bytes.len() == 4 => u32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).to_string(),
        ParameterType::Int8 => i64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).to_string(),
        ParameterType::Float4 => f32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).to_string(),
        ParameterType::Float8 => f64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?).to_string(),
        ParameterType::Numeric => numeric::text(bytes)?,
        ParameterType::Bytea => bytes.iter().fold("\\x".to_owned(), |out, byte| out + &format!("{byte:02x}")),
        ParameterType::Date => {
            let days = i64::from(i32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?)) + i64::from(EPOCH_DAYS);
            timestamp(days.saturating_mul(86_400_000_000), false).split(' ').next().unwrap_or_default().to_owned()
        }
        ParameterType::Time => {
            let micros = i64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?);
            timestamp(micros, false).split(' ').nth(1).unwrap_or_default().to_owned()
        }
        ParameterType::Timestamp | ParameterType::Timestamptz => {
            let micros = i64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?);
            timestamp(micros.saturating_add(EPOCH_US), kind == ParameterType::Timestamptz)
        }
        ParameterType::Interval => {
            let [micros, rest] = *bytes.chunks_exact(8).collect::<Vec<_>>() else { return Err(wrong()) };
            let micros = i64::from_be_bytes(fixed(micros).ok_or_else(wrong)?);
            let days = i32::from_be_bytes(fixed(&rest[..4]).ok_or_else(wrong)?);
            let months = i32::from_be_bytes(fixed(&rest[4..]).ok_or_else(wrong)?);
            format!("{months} months {days} days {micros} microseconds")
        }
        ParameterType::Uuid => {
            let hex: String = fixed::<16>(bytes).ok_or_else(wrong)?.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        }
    })
}

/// The text of an array of one dimension in its binary form, as `{1,NULL,"a b"}`.
pub(crate) fn array(item: ParameterType, bytes: &[u8]) -> Result<String, PgError> {
    let wrong = || PgError::new(state::INVALID_BINARY, "a binary array is not in its form, or has several dimensions");
    let word = |at: usize| Some(i32::from_be_bytes(fixed(bytes.get(at..at + 4)?)?));
    let count = match word(0) {
        Some(0) => 0,
        Some(1) => word(12).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    let (mut at, mut items) = (20, Vec::new());
    for _ in 0..count {
        let length = word(at).ok_or_else(wrong)?;
        at += 4;
        items.push(match usize::try_from(length) {
            Ok(length) => {
                let bytes = bytes.get(at..at + length).ok_or_else(wrong)?;
                at += length;
                let text = text(Some(item), true, bytes)?;
                let is_text = item == ParameterType::Text;
                if is_text { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) } else { text }
            }
            Err(_) => "NULL".to_owned(),
        });
    }
    Ok(format!("{{{}}}", items.join(",")))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}
