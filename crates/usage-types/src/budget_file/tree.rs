//! YAML as a tree in which every key and value knows its line and column, and every scalar is the text that was written.
//!
//! A tree and not serde, because a limit or a threshold must not pass through a float, and because an error has to name the place
//! of a value that is well-formed and still wrong. An alias shares the node it names, so it costs nothing however often it is used.
//! Deliberately absent: tags, merge keys and files of several documents; a budgets file needs none of them.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::BudgetError;

/// Where something stands in the file: line and column, both from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    fn of(span: &Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }

    /// The line, from 1.
    pub(super) const fn line(self) -> usize {
        self.line
    }

    /// An error at this place; `field` is the path, empty where the whole file is meant.
    pub(super) fn error(self, field: &str, message: impl Into<String>) -> BudgetError {
        BudgetError { line: self.line, column: self.column, field: field.to_owned(), message: message.into() }
    }
}

/// A value, or a key, and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    /// How many levels of lists and mappings are below and with it.
    depth: usize,
}

#[derive(Debug)]
pub(super) enum Value {
    /// Nothing written, `~` or `null`.
    Null,
    /// Any other scalar, unescaped.
    Text(String),
    /// A list.
    List(Vec<Rc<Node>>),
    /// A mapping in the order of the file; a key may be there twice.
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

/// The most levels of lists and mappings; a budgets file has five. Aliases within aliases could nest without end otherwise.
const DEPTH_MAX: usize = 32;

/// A list or mapping whose end is not read yet.
struct Open {
    place: Place,
    anchor: usize,
    is_map: bool,
    nodes: Vec<Rc<Node>>,
}

/// Reads the one document of a text; `None` where it holds nothing.
///
/// # Errors
/// It is no YAML, or uses what is not read here.
pub(super) fn parse(text: &str) -> Result<Option<Rc<Node>>, BudgetError> {
    let mut builder = Builder::default();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| {
            let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
            place.error("", format!("not YAML: {}", error.info()))
        })?;
        builder.take(event, Place::of(&span))?;
    }
    Ok(builder.root)
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), BudgetError> {
        if event.tag().is_some() {
            return Err(place.error("", "a YAML tag is not read here; write the plain value"));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(place.error("", "a second document starts here; put all budgets into one list"));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Value::Null } else { Value::Text(text.into_owned()) };
                self.put(Node { place, value, depth: 0 }, anchor);
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open { place, anchor, is_map: false, nodes: Vec::new() })
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(Open { place, anchor, is_map: true, nodes: Vec::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node =
                    node.ok_or_else(|| place.error("", "an alias within its own anchor never ends; write it out"))?;
                self.put_shared(node);
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), BudgetError> {
        let Some(Open { place, anchor, is_map, nodes }) = self.open.pop() else { return Ok(()) };
        let depth = 1 + nodes.iter().map(|node| node.depth).max().unwrap_or(0);
        if depth > DEPTH_MAX {
            return Err(place.error("", format!("nested more than {DEPTH_MAX} levels deep; a budgets file is flat")));
        }
        let value = if is_map {
            let mut nodes = nodes.into_iter();
            let mut pairs = Vec::new();
            while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
                pairs.push((key, value));
            }
            Value::Map(pairs)
        } else {
            Value::List(nodes)
        };
        self.put(Node { place, value, depth }, anchor);
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: usize) {
        let node = Rc::new(node);
        // The parser numbers anchors from 1; 0 is none.
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.put_shared(node);
    }

    fn put_shared(&mut self, node: Rc<Node>) {
        match self.open.last_mut() {
            Some(open) => open.nodes.push(node),
            None => self.root = Some(node),
        }
    }
}
