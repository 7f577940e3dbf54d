//! An Avro schema, made ready for reading what was written with it: its types as a flat list, in which names are resolved.
//! Source: the specification of Avro 1.12.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::native::Member;

/// The largest scale of a decimal: more digits than 128 bits have.
const SCALE_MAX: u64 = 40;

/// What a number in `time` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Millis,
    Micros,
    Nanos,
}

/// A type. Others are named by their places in the list.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    /// `int` and `long`, which are written alike.
    Integer(Option<TimeUnit>),
    Float,
    Double,
    Bytes,
    String,
    /// A decimal in bytes, or in so many of them.
    Decimal {
        scale: usize,
        size: Option<usize>,
    },
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<Field>),
    /// A type that is defined elsewhere.
    Link(usize),
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// The member of the event that it is, where the record is the event.
    pub(super) member: Member,
    pub(super) place: usize,
}

/// A schema whose outermost type is a record.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) nodes: Vec<Node>,
    pub(super) root: usize,
}

impl Schema {
    /// Reads a schema with those that it refers to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        let mut parser = Parser::default();
        let json = |text: &str| serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"));
        for reference in references {
            parser.node(&json(reference)?, "")?;
        }
        let mut root = parser.node(&json(text)?, "")?;
        let mut nodes = parser.nodes;
        for (place, name) in parser.links {
            let target =
                parser.names.get(&name).ok_or_else(|| format!("it names the type {name:?}, which is not defined"))?;
            nodes[place] = Node::Link(*target);
        }
        if let Node::Link(target) = nodes[root] {
            root = target;
        }
        match nodes[root] {
            Node::Record(_) => Ok(Self { nodes, root }),
            _ => Err("it is no record; publish with schemas/usage-event.v1.avsc or a record of such fields".to_owned()),
        }
    }
}

#[derive(Default)]
struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, usize>,
    /// Places of types that are named, and by what.
    links: Vec<(usize, String)>,
}

impl Parser {
    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// A type, and those within it. serde_json has bounded how deep they are.
    fn node(&mut self, json: &Value, namespace: &str) -> Result<usize, String> {
        match json {
            Value::String(name) => Ok(match primitive(name) {
                Some(node) => self.push(node),
                None => {
                    // Until the name is resolved.
                    let place = self.push(Node::Null);
                    self.links.push((place, full_name(name, namespace)));
                    place
                }
            }),
            Value::Array(variants) => {
                let variants =
                    variants.iter().map(|variant| self.node(variant, namespace)).collect::<Result<_, _>>()?;
                Ok(self.push(Node::Union(variants)))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.object(kind, object, namespace),
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.node(inner, namespace),
                _ => Err("a type is missing its `type`".to_owned()),
            },
            other => Err(format!("{other} is no type")),
        }
    }

    fn object(&mut self, kind: &str, object: &Map<String, Value>, namespace: &str) -> Result<usize, String> {
        let of = |member: &str| object.get(member).ok_or_else(|| format!("a type {kind:?} is missing its `{member}`"));
        let logical = object.get("logicalType").and_then(Value::as_str);
        let node = match kind {
            "record" | "error" | "enum" | "fixed" => return self.definition(kind, object, namespace),
            "array" => Node::Array(self.node(of("items")?, namespace)?),
            "map" => Node::Map(self.node(of("values")?, namespace)?),
            "long" => Node::Integer(logical.and_then(time_unit)),
            "bytes" if logical == Some("decimal") => Node::Decimal { scale: scale(object)?, size: None },
            name => return self.node(&Value::from(name), namespace),
        };
        Ok(self.push(node))
    }

    /// A type with a name.
    fn definition(&mut self, kind: &str, object: &Map<String, Value>, namespace: &str) -> Result<usize, String> {
        let name = object.get("name").and_then(Value::as_str).ok_or_else(|| format!("a type {kind:?} has no name"))?;
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let name = full_name(name, namespace);
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let place = self.push(Node::Null);
        if self.names.insert(name.clone(), place).is_some() {
            return Err(format!("the type {name:?} is defined twice"));
        }
        let list = |member: &str| {
            object.get(member).and_then(Value::as_array).ok_or_else(|| format!("{name:?} has no list of `{member}`"))
        };
        self.nodes[place] = match kind {
            "enum" => {
                let symbols = list("symbols")?.iter().map(|symbol| symbol.as_str().map(str::to_owned));
                Node::Enum(symbols.collect::<Option<_>>().ok_or_else(|| format!("a symbol of {name:?} is no text"))?)
            }
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| format!("{name:?} has no size"))?;
                match object.get("logicalType").and_then(Value::as_str) {
                    Some("decimal") => Node::Decimal { scale: scale(object)?, size: Some(size) },
                    _ => Node::Fixed(size),
                }
            }
            _ => {
                let mut fields = Vec::new();
                for field in list("fields")? {
                    let field_name =
                        field["name"].as_str().ok_or_else(|| format!("a field of {name:?} has no name"))?;
                    let place = self.node(&field["type"], &namespace)?;
                    fields.push(Field {
                        name: field_name.to_owned(),
                        member: Member::of(field_name.as_bytes()),
                        place,
                    });
                }
                Node::Record(fields)
            }
        };
        Ok(place)
    }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" | "long" => Node::Integer(None),
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::String,
        _ => return None,
    })
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.trim_start_matches('.').to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn time_unit(logical: &str) -> Option<TimeUnit> {
    match logical {
        "timestamp-millis" => Some(TimeUnit::Millis),
        "timestamp-micros" => Some(TimeUnit::Micros),
        "timestamp-nanos" => Some(TimeUnit::Nanos),
        _ => None,
    }
}

fn scale(object: &Map<String, Value>) -> Result<usize, String> {
    let scale = object.get("scale").map_or(Some(0), Value::as_u64).filter(|scale| *scale <= SCALE_MAX);
    let scale = scale.and_then(|scale| usize::try_from(scale).ok());
    scale.ok_or_else(|| format!("the scale of a decimal is no number up to {SCALE_MAX}"))
}
