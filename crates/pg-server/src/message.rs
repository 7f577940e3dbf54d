//! The messages (PostgreSQL's documentation, 54.7), as far as a server that only answers queries needs them.
//!
//! Holds here: a message is read within its own length. What is shorter than it says is an error and no panic.

use bytes::{BufMut, Bytes, BytesMut};

use crate::PgError;
use crate::error::Severity;
use crate::types::WireType;

/// The largest message of a client, in bytes: a statement of the largest size with its parameters.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The largest message before a client is let in, in bytes (PostgreSQL: 10,000).
pub(crate) const EARLY_BYTES_MAX: usize = 10_000;

/// A first message, which has no kind.
#[derive(Debug)]
pub(crate) enum Opening {
    Ssl,
    Gss,
    Cancel { process: i32, secret: i32 },
    Startup { major: u16, minor: u16, parameters: Vec<(String, String)> },
}

/// A message of a client that was let in.
#[derive(Debug)]
pub(crate) enum Frontend {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        rows_max: usize,
    },
    Close(Target),
    Sync,
    Flush,
    Terminate,
    Password(String),
    /// Of a copy, which no statement here begins: PostgreSQL ignores these then, too.
    Ignored,
}

#[derive(Debug)]
pub(crate) struct Bind {
    pub portal: String,
    pub statement: String,
    pub formats: Vec<bool>,
    pub values: Vec<Option<Bytes>>,
    pub result_formats: Vec<bool>,
}

#[derive(Debug)]
pub(crate) enum Target {
    Statement(String),
    Portal(String),
}

/// Takes the first message from the front of what has come, once it is whole.
pub(crate) fn take_opening(input: &mut BytesMut) -> Result<Option<Opening>, PgError> {
    let Some(mut body) = take(input, 0, EARLY_BYTES_MAX)? else { return Ok(None) };
    let code = body.i32()?;
    Ok(Some(match code {
        80_877_103 => Opening::Ssl,
        80_877_104 => Opening::Gss,
        80_877_102 => Opening::Cancel { process: body.i32()?, secret: body.i32()? },
        _ => {
            let mut parameters = Vec::new();
            loop {
                let name = body.text()?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, body.text()?));
            }
            let [a, b, c, d] = code.to_be_bytes();
            Opening::Startup { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]), parameters }
        }
    }))
}

/// Takes the next message from the front of what has come, once it is whole.
pub(crate) fn take_message(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Frontend>, PgError> {
    let Some(kind) = input.first().copied() else { return Ok(None) };
    let Some(mut body) = take(input, 1, bytes_max)? else { return Ok(None) };
    Ok(Some(match kind {
        b'Q' => Frontend::Query(body.text()?),
        b'P' => {
            let (name, sql) = (body.text()?, body.text()?);
            let types = body.many(|body| body.i32().map(i32::cast_unsigned))?;
            Frontend::Parse { name, sql, types }
        }
        b'B' => Frontend::Bind(bind(&mut body)?),
        b'D' => Frontend::Describe(target(&mut body)?),
        b'C' => Frontend::Close(target(&mut body)?),
        b'E' => {
            let portal = body.text()?;
            Frontend::Execute { portal, rows_max: usize::try_from(body.i32()?).unwrap_or(0) }
        }
        b'S' => Frontend::Sync,
        b'H' => Frontend::Flush,
        b'X' => Frontend::Terminate,
        b'p' => Frontend::Password(body.text()?),
        b'd' | b'c' | b'f' => Frontend::Ignored,
        other => return Err(PgError::protocol(format!("invalid frontend message type {other}"))),
    }))
}

fn bind(body: &mut Body) -> Result<Bind, PgError> {
    let (portal, statement) = (body.text()?, body.text()?);
    let formats = body.many(Body::format)?;
    let values = body.many(|body| match usize::try_from(body.i32()?) {
        Ok(length) => body.bytes(length).map(Some),
        Err(_) => Ok(None),
    })?;
    Ok(Bind { portal, statement, formats, values, result_formats: body.many(Body::format)? })
}

fn target(body: &mut Body) -> Result<Target, PgError> {
    match body.bytes(1)?[0] {
        b'S' => Ok(Target::Statement(body.text()?)),
        b'P' => Ok(Target::Portal(body.text()?)),
        other => Err(PgError::protocol(format!("{other} is neither a statement nor a portal"))),
    }
}

/// The body of a message whose length stands after `before` bytes.
fn take(input: &mut BytesMut, before: usize, bytes_max: usize) -> Result<Option<Body>, PgError> {
    let Some(length) = input.get(before..before + 4) else { return Ok(None) };
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if length < 4 || length > bytes_max {
        return Err(PgError::protocol(format!("a message of {length} bytes; at most {bytes_max} are read")));
    }
    if input.len() < before + length {
        return Ok(None);
    }
    let body = input.split_to(before + length).split_off(before + 4);
    Ok(Some(Body(body.freeze())))
}

struct Body(Bytes);

impl Body {
    fn bytes(&mut self, length: usize) -> Result<Bytes, PgError> {
        if length > self.0.len() {
            return Err(PgError::protocol("a message is shorter than it says"));
        }
        Ok(self.0.split_to(length))
    }

    fn i32(&mut self) -> Result<i32, PgError> {
        let bytes = self.bytes(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn u16(&mut self) -> Result<u16, PgError> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Whether a value is binary.
    fn format(&mut self) -> Result<bool, PgError> {
        match self.u16()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(PgError::protocol(format!("{other} is no format of a value"))),
        }
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T, PgError>) -> Result<Vec<T>, PgError> {
        (0..self.u16()?).map(|_| one(self)).collect()
    }

    /// A text up to its zero byte.
    fn text(&mut self) -> Result<String, PgError> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| PgError::protocol("a text in a message has no end"))?;
        let text = self.0.split_to(end);
        let _zero = self.0.split_to(1);
        String::from_utf8(text.to_vec()).map_err(|_| PgError::protocol("a text in a message is not UTF-8"))
    }
}

/// How a session stands, as `ReadyForQuery` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Idle,
    Transaction,
    Failed,
}

/// Messages on their way to a client.
#[derive(Debug, Default)]
pub(crate) struct Outbox(pub BytesMut);

impl Outbox {
    /// A message of this kind, with the body that `write` makes.
    pub fn message(&mut self, kind: u8, write: impl FnOnce(&mut BytesMut)) {
        self.0.put_u8(kind);
        let start = self.0.len();
        self.0.put_i32(0);
        write(&mut self.0);
        // No message of ours is larger than a row, whose values were in the memory of a child.
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn empty(&mut self, kind: u8) {
        self.message(kind, |_| ());
    }

    pub fn ask_password(&mut self) {
        self.message(b'R', |body| body.put_i32(3));
    }

    pub fn let_in(&mut self) {
        self.message(b'R', |body| body.put_i32(0));
    }

    pub fn parameter(&mut self, name: &str, value: &str) {
        self.message(b'S', |body| {
            put_text(body, name);
            put_text(body, value);
        });
    }

    pub fn key(&mut self, process: i32, secret: i32) {
        self.message(b'K', |body| {
            body.put_i32(process);
            body.put_i32(secret);
        });
    }

    /// The newest minor version that is spoken here, and what of the startup message is not known.
    pub fn negotiate(&mut self, unknown: &[&str]) {
        self.message(b'v', |body| {
            body.put_i32(0);
            body.put_i32(i32::try_from(unknown.len()).unwrap_or(0));
            unknown.iter().for_each(|name| put_text(body, name));
        });
    }

    pub fn ready(&mut self, status: Status) {
        let status = match status {
            Status::Idle => b'I',
            Status::Transaction => b'T',
            Status::Failed => b'E',
        };
        self.message(b'Z', |body| body.put_u8(status));
    }

    pub fn parsed(&mut self) {
        self.empty(b'1');
    }

    pub fn bound(&mut self) {
        self.empty(b'2');
    }

    pub fn closed(&mut self) {
        self.empty(b'3');
    }

    pub fn no_data(&mut self) {
        self.empty(b'n');
    }

    pub fn nothing_asked(&mut self) {
        self.empty(b'I');
    }

    pub fn suspended(&mut self) {
        self.empty(b's');
    }

    pub fn complete(&mut self, tag: &str) {
        self.message(b'C', |body| put_text(body, tag));
    }

    pub fn parameters(&mut self, oids: impl ExactSizeIterator<Item = u32>) {
        self.message(b't', |body| {
            body.put_u16(u16::try_from(oids.len()).unwrap_or(u16::MAX));
            oids.for_each(|oid| body.put_u32(oid));
        });
    }

    /// The columns of what follows, each with whether its values are binary.
    pub fn columns<'c>(&mut self, columns: impl ExactSizeIterator<Item = (&'c str, WireType, bool)>) {
        self.message(b'T', |body| {
            body.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
            for (name, kind, is_binary) in columns {
                put_text(body, name);
                // Of no table that the client could ask about.
                body.put_i32(0);
                body.put_i16(0);
                body.put_u32(kind.oid);
                body.put_i16(kind.size);
                body.put_i32(kind.modifier);
                body.put_i16(i16::from(is_binary));
            }
        });
    }

    pub fn error(&mut self, error: &PgError) {
        let severity = match error.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        self.message(b'E', |body| {
            let mut field = |kind: u8, value: &str| {
                body.put_u8(kind);
                put_text(body, value);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', error.state);
            field(b'M', &error.message);
            if let Some(hint) = &error.hint {
                field(b'H', hint);
            }
            if let Some(position) = error.position {
                field(b'P', &position.to_string());
            }
            body.put_u8(0);
        });
    }
}

/// A text with its zero byte; one within it would end it.
fn put_text(body: &mut BytesMut, text: &str) {
    body.extend(text.bytes().filter(|byte| *byte != 0));
    body.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of this kind and body.
    fn message(kind: u8, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::from(&[kind][..]);
        bytes.put_u32(u32::try_from(body.len()).unwrap() + 4);
        bytes.put_slice(body);
        bytes
    }

    #[test]
    fn a_message_is_read_once_it_is_whole_and_not_beyond_its_end() {
        let first = message(b'P', b"name\0select $1\0\0\x01\0\0\0\x14");
        let (mut come, mut taken) = (BytesMut::new(), Vec::new());
        for (at, byte) in first.iter().chain(&message(b'S', b"")).enumerate() {
            come.put_u8(*byte);
            taken.extend(take_message(&mut come, 100).unwrap().map(|message| (at + 1, message)));
        }
        let [(parsed_at, Frontend::Parse { name, sql, types }), (synced_at, Frontend::Sync)] = taken.as_slice() else {
            panic!("{taken:?}");
        };
        assert_eq!((*parsed_at, *synced_at), (first.len(), first.len() + 5));
        assert_eq!((name.as_str(), sql.as_str(), types.as_slice()), ("name", "select $1", &[20][..]));
        assert!(come.is_empty());
    }

    #[test]
    fn what_is_shorter_than_it_says_is_refused_at_every_length() {
        let bind = b"\0statement\0\0\x01\0\x01\0\x01\0\0\0\x04abcd\0\x01\0\x01";
        let whole = take_message(&mut message(b'B', bind), 100).unwrap();
        let Some(Frontend::Bind(whole)) = whole else { panic!("{whole:?}") };
        assert_eq!((whole.statement.as_str(), whole.formats.as_slice()), ("statement", &[true][..]));
        assert_eq!(whole.values, [Some(Bytes::from_static(b"abcd"))]);
        for length in 0..bind.len() {
            // What follows belongs to the next message.
            let mut bytes = message(b'B', &bind[..length]);
            bytes.extend_from_slice(&[0; 64]);
            assert!(take_message(&mut bytes, 100).is_err(), "{length} bytes");
        }
        for (kind, body) in [(b'Q', &b"no end"[..]), (b'D', b"X\0"), (b'?', b""), (b'E', b"\0\0\0"), (b'Q', b"\xff\0")]
        {
            assert!(take_message(&mut message(kind, body), 100).is_err(), "{kind} {body:?}");
        }
        assert!(take_message(&mut message(b'Q', &[b'x'; 200]), 100).is_err(), "too long");
        assert!(take_message(&mut BytesMut::from(&b"Q\0\0\0\x03"[..]), 100).is_err(), "shorter than its length");
    }
}
