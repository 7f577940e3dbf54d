//! Avro, read by the schema that the writer had: fields are found by name, whatever their order, and those that are not there are absent.
//!
//! Our own reader, since none of the libraries can be had: apache-avro asks a crate beneath DataFusion for another feature and bounds neither
//! depth nor work, and serde_avro_fast depends on a crate under the LGPL.
//! Holds here: nothing is allocated by a length that the bytes claim; depth, steps and what is written are bounded by the length of the
//! record, so neither bytes nor schema can make the reader work for longer.

use std::sync::LazyLock;

use usage_types::{RejectCode, Rejection};

use super::avro_schema::{Node, Schema, TimeUnit};
use super::json;
use crate::encode::Json;
use crate::field::{Fault, bounded};
use crate::native::Member;

/// Values within values: an event has four levels, a provider's usage object some more; a union takes one, too.
const DEPTH_MAX: usize = 32;
/// Values that take no bytes, like a null in an array of nulls, are counted besides those that may take one each.
const EMPTY_VALUES_MAX: usize = 10_000;
/// The JSON may have this many bytes besides eight for each byte read: a control character takes six, and a small record has long names.
const JSON_BYTES_MORE: usize = 64 * 1024;

/// A writer's schema.
#[derive(Debug)]
pub(super) struct AvroWriter(Schema);

impl AvroWriter {
    /// Reads a schema with those that it refers to.
    ///
    /// # Errors
    /// Why it cannot be that of events.
    pub(super) fn new(schema: &str, references: &[String]) -> Result<Self, String> {
        Schema::parse(schema, references).map(Self).map_err(|why| format!("the Avro schema cannot be read: {why}"))
    }

    /// Our own schema as it was published first, which stays as it is: Avro's bytes do not say with which schema they were written, so
    /// a member that is added to the published one cannot be read of them without a registry.
    pub(super) fn without_registry() -> &'static Self {
        static FIRST: LazyLock<AvroWriter> = LazyLock::new(|| {
            let schema = include_str!("../../../../schemas/usage-event.v1-0.avsc");
            AvroWriter::new(schema, &[]).expect("the published schema is one, which a test checks")
        });
        &FIRST
    }

    /// The event as native JSON.
    pub(super) fn to_json(&self, bytes: &[u8]) -> Result<String, Rejection> {
        let mut reader = Reader {
            nodes: &self.0.nodes,
            bytes,
            json: Json::new(),
            steps: bytes.len().saturating_add(EMPTY_VALUES_MAX),
            json_bytes_max: bytes.len().saturating_mul(8).saturating_add(JSON_BYTES_MORE),
            member: Member::Other,
        };
        reader.event(self.0.root).map_err(|(code, message)| {
            let field = reader.member.name();
            Rejection { code, field: (!field.is_empty()).then(|| field.to_owned()), message: bounded(message) }
        })?;
        if !reader.bytes.is_empty() {
            let message = format!(
                "{} bytes are left behind the event, so it was written with another schema than that of its id; register the schema that \
                 the writer has, or write with schemas/usage-event.v1-0.avsc where there is no registry",
                reader.bytes.len()
            );
            return Err(Rejection::new(RejectCode::BadEncoding, message));
        }
        Ok(reader.json.into_text())
    }
}

struct Reader<'r> {
    nodes: &'r [Node],
    /// What is not read so far.
    bytes: &'r [u8],
    json: Json,
    /// How many more values may be read.
    steps: usize,
    json_bytes_max: usize,
    /// The member of the event that is being read.
    member: Member,
}

/// What becomes of a value.
#[derive(Clone, Copy)]
enum Use {
    Skip,
    /// It is written as the JSON of this member; [`Member::Other`] within one.
    Write(Member),
}

impl<'r> Reader<'r> {
    fn event(&mut self, root: usize) -> Result<(), Fault> {
        let Node::Record(fields) = &self.nodes[root] else { return Ok(()) };
        self.json.open('{');
        for field in fields {
            self.member = field.member;
            let usage = match field.member {
                Member::Other | Member::SpecVersion => Use::Skip,
                member => {
                    self.json.name(&field.name);
                    Use::Write(member)
                }
            };
            self.value(field.place, usage, DEPTH_MAX)?;
        }
        self.member = Member::Other;
        self.json.close('}');
        Ok(())
    }

    fn value(&mut self, place: usize, usage: Use, depth: usize) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or_else(|| malformed("its values are too deep within each other"))?;
        self.steps = self.steps.checked_sub(1).filter(|_| self.json.len() <= self.json_bytes_max).ok_or_else(|| {
            let message = "the schema makes more values of these bytes than are read; leave out what holds only nulls";
            (RejectCode::OutOfRange, message.to_owned())
        })?;
        let nodes = self.nodes;
        match &nodes[place] {
            Node::Link(place) => return self.value(*place, usage, depth),
            Node::Union(variants) => {
                let at = usize::try_from(self.integer()?).ok();
                let variant =
                    at.and_then(|at| variants.get(at)).ok_or_else(|| malformed("a union has no such variant"))?;
                return self.value(*variant, usage, depth);
            }
            Node::Array(items) => return self.items(*items, false, usage, depth),
            Node::Map(values) => return self.items(*values, true, usage, depth),
            Node::Record(fields) => {
                self.bracket(usage, '{');
                for field in fields {
                    if let Use::Write(_) = usage {
                        self.json.name(&field.name);
                    }
                    self.value(field.place, within(usage), depth)?;
                }
                self.bracket(usage, '}');
            }
            Node::Null => self.raw(usage, "null"),
            Node::Boolean => {
                let value = self.take(1)?[0] != 0;
                self.raw(usage, if value { "true" } else { "false" });
            }
            Node::Integer(unit) => {
                let value = self.integer()?;
                self.write_integer(value, *unit, usage)?;
            }
            Node::Float => {
                let value = f32::from_le_bytes(self.array()?);
                self.write_float(value.into(), usage)?;
            }
            Node::Double => {
                let value = f64::from_le_bytes(self.array()?);
                self.write_float(value, usage)?;
            }
            Node::String => {
                let text = self.text()?;
                self.write_text(text, usage)?;
            }
            Node::Enum(symbols) => {
                let at = usize::try_from(self.integer()?).ok();
                let symbol =
                    at.and_then(|at| symbols.get(at)).ok_or_else(|| malformed("an enum has no such symbol"))?;
                self.write_text(symbol, usage)?;
            }
            Node::Decimal { scale, size } => {
                let size = size.map_or_else(|| self.length(), Ok)?;
                let bytes = self.take(size)?;
                if let Use::Write(_) = usage {
                    self.json.quoted_value(&decimal(bytes, *scale)?);
                }
            }
            Node::Bytes => {
                let length = self.length()?;
                self.opaque(length, usage)?;
            }
            Node::Fixed(size) => self.opaque(*size, usage)?,
        }
        Ok(())
    }

    /// The items of an array or, each behind its name, of a map: blocks with their counts, until one of none.
    fn items(&mut self, place: usize, are_named: bool, usage: Use, depth: usize) -> Result<(), Fault> {
        let brackets = if are_named { ['{', '}'] } else { ['[', ']'] };
        self.bracket(usage, brackets[0]);
        loop {
            let count = self.integer()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                // The block's length in bytes, for whoever skips it.
                self.integer()?;
            }
            for _ in 0..count.unsigned_abs() {
                let name = if are_named { self.text()? } else { "" };
                match usage {
                    Use::Write(_) if are_named => self.json.name(name),
                    Use::Write(_) => self.json.separate(),
                    Use::Skip => {}
                }
                self.value(place, within(usage), depth)?;
            }
        }
        self.bracket(usage, brackets[1]);
        Ok(())
    }

    fn write_integer(&mut self, value: i64, unit: Option<TimeUnit>, usage: Use) -> Result<(), Fault> {
        let micros = match (usage, unit) {
            (Use::Skip, _) => return Ok(()),
            (Use::Write(Member::Time), Some(TimeUnit::Millis)) => value.checked_mul(1000),
            (Use::Write(Member::Time), Some(TimeUnit::Micros)) => Some(value),
            (Use::Write(Member::Time), Some(TimeUnit::Nanos)) => Some(value.div_euclid(1000)),
            (Use::Write(Member::Time), None) => {
                let message = "a number without a unit; give the schema's field the logicalType timestamp-millis or timestamp-micros";
                return Err((RejectCode::WrongType, message.to_owned()));
            }
            (Use::Write(_), _) => {
                self.json.integer(value);
                return Ok(());
            }
        };
        json::time(&mut self.json, micros)
    }

    fn write_float(&mut self, value: f64, usage: Use) -> Result<(), Fault> {
        if let Use::Write(_) = usage {
            if !value.is_finite() {
                return Err((RejectCode::WrongType, format!("{value} is no number; write one, or null")));
            }
            self.json.float(value);
        }
        Ok(())
    }

    fn write_text(&mut self, text: &str, usage: Use) -> Result<(), Fault> {
        match usage {
            Use::Skip => {}
            Use::Write(Member::Usage) => json::usage(&mut self.json, text)?,
            Use::Write(_) => self.json.string(text),
        }
        Ok(())
    }

    fn opaque(&mut self, length: usize, usage: Use) -> Result<(), Fault> {
        self.take(length)?;
        match usage {
            Use::Skip => Ok(()),
            Use::Write(_) => {
                let message =
                    "bytes are not read here; give the schema's field the type string, or the logicalType decimal";
                Err((RejectCode::WrongType, message.to_owned()))
            }
        }
    }

    fn bracket(&mut self, usage: Use, bracket: char) {
        if let Use::Write(_) = usage {
            self.json.open(bracket);
        }
    }

    fn raw(&mut self, usage: Use, json: &str) {
        if let Use::Write(_) = usage {
            self.json.raw(json);
        }
    }

    /// A zigzag varint of at most ten bytes.
    fn integer(&mut self) -> Result<i64, Fault> {
        let mut value = 0_u64;
        for (at, byte) in self.bytes.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[at + 1..];
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(malformed("a number does not end"))
    }

    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.integer()?).map_err(|_| malformed("a length is negative"))
    }

    fn text(&mut self) -> Result<&'r str, Fault> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| malformed("a text is not UTF-8"))
    }

    fn take(&mut self, length: usize) -> Result<&'r [u8], Fault> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| malformed(&format!("{length} bytes are needed, and {} are there", self.bytes.len())))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|at| bytes[at]))
    }
}

fn malformed(what: &str) -> Fault {
    let message = format!(
        "not Avro as the writer's schema has it: {what}; check that the record was written with the schema of its id"
    );
    (RejectCode::BadEncoding, message)
}

/// What becomes of the parts of a value.
fn within(usage: Use) -> Use {
    match usage {
        Use::Skip => Use::Skip,
        Use::Write(_) => Use::Write(Member::Other),
    }
}

/// A big-endian number in two's complement as the text of a decimal with so many digits behind the point.
fn decimal(bytes: &[u8], scale: usize) -> Result<String, Fault> {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let sign = if is_negative { 0xff } else { 0 };
    let head = bytes.len().saturating_sub(16);
    let is_wide =
        bytes[..head].iter().any(|byte| *byte != sign) || (head > 0 && (bytes[head] & 0x80 != 0) != is_negative);
    if is_wide {
        return Err((RejectCode::OutOfRange, "the decimal has more than 38 digits; no amount here has".to_owned()));
    }
    let unscaled =
        bytes[head..].iter().fold(if is_negative { -1 } else { 0_i128 }, |all, byte| all << 8 | i128::from(*byte));
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if is_negative { "-" } else { "" };
    Ok(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_a_number_in_twos_complement_of_any_length() {
        let wide = [&[0xff; 8][..], &(-5_i128).to_be_bytes()].concat();
        for (bytes, scale, expected) in [
            (&[][..], 0, Some("0")),
            (&[], 2, Some("0.00")),
            (&[5], 0, Some("5")),
            (&[0xfb], 0, Some("-5")),
            (&[0x30, 0x39], 2, Some("123.45")),
            (&[0xcf, 0xc7], 4, Some("-1.2345")),
            (&[1], 12, Some("0.000000000001")),
            (&wide, 1, Some("-0.5")),
            (&[0x7f; 17], 0, None),
            (&[0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, None),
        ] {
            assert_eq!(decimal(bytes, scale).ok().as_deref(), expected, "{bytes:x?}");
        }
        assert_eq!(decimal(&i128::MIN.to_be_bytes(), 0).unwrap(), i128::MIN.to_string());
    }
}
