//! A value of the file with the path that leads to it, and how each kind of value is taken from it.

use std::rc::Rc;

use crate::BudgetError;
use crate::budget_file::tree::{Node, Place, Value};

/// A value, and its path for errors.
pub(super) struct Field<'n> {
    pub(super) node: &'n Node,
    pub(super) path: String,
}

/// A mapping whose keys are all known and each there once.
pub(super) struct Members<'n> {
    place: Place,
    path: String,
    pairs: Vec<(&'n str, Place, &'n Node)>,
    /// Where members are taken from that are not here, and which ones are not.
    or: Option<(Rc<Members<'n>>, &'static [&'static str])>,
}

impl<'n> Field<'n> {
    pub(super) fn error(&self, message: impl Into<String>) -> BudgetError {
        self.node.place.error(&self.path, message)
    }

    /// The scalar's text.
    pub(super) fn text(&self, like: &str) -> Result<&'n str, BudgetError> {
        match &self.node.value {
            Value::Text(text) => Ok(text),
            Value::Null => Err(self.error(format!("nothing is written here; write {like}"))),
            Value::List(_) => Err(self.error(format!("a list stands here; write {like}"))),
            Value::Map(_) => Err(self.error(format!("a mapping stands here; write {like}"))),
        }
    }

    /// The elements of a list; none where nothing is written.
    pub(super) fn list(&self, like: &str) -> Result<Vec<Field<'n>>, BudgetError> {
        match &self.node.value {
            Value::Null => Ok(Vec::new()),
            Value::List(nodes) => {
                let field = |(at, node): (usize, &'n Rc<Node>)| Field { node, path: format!("{}[{at}]", self.path) };
                Ok(nodes.iter().enumerate().map(field).collect())
            }
            Value::Text(_) | Value::Map(_) => Err(self.error(format!("this is no list; write {like}"))),
        }
    }

    /// The members of a mapping whose names are not ours; none where nothing is written.
    pub(super) fn any_members(&self, like: &str) -> Result<Members<'n>, BudgetError> {
        let mut members = Members { place: self.node.place, path: self.path.clone(), pairs: Vec::new(), or: None };
        let pairs = match &self.node.value {
            Value::Null => return Ok(members),
            Value::Map(pairs) => pairs,
            Value::Text(_) | Value::List(_) => return Err(self.error(format!("this is no mapping; write {like}"))),
        };
        for (key, value) in pairs {
            let Value::Text(name) = &key.value else {
                return Err(key.place.error(&self.path, "a key is a plain name"));
            };
            if members.pairs.iter().any(|(is, ..)| is == name) {
                let path = members.path_of(name);
                return Err(key.place.error(&path, format!("`{name}` is given twice; keep one of them")));
            }
            members.pairs.push((name, key.place, value));
        }
        Ok(members)
    }

    /// The members of a mapping; none where nothing is written.
    pub(super) fn members(&self, known: &[&str], like: &str) -> Result<Members<'n>, BudgetError> {
        let members = self.any_members(like)?;
        if let Some((name, place, _)) = members.pairs.iter().find(|(name, ..)| !known.contains(name)) {
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of {}", known.join(", ")),
            };
            return Err(place.error(&members.path_of(name), format!("unknown field {name:?}; {hint}")));
        }
        Ok(members)
    }
}

impl<'n> Members<'n> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The member of this name; `None` where nothing is written for it.
    pub(super) fn get(&self, name: &str) -> Option<Field<'n>> {
        let own = self.pairs.iter().find(|(is, _, node)| *is == name && !matches!(node.value, Value::Null));
        match (own, &self.or) {
            (Some((.., node)), _) => Some(Field { node, path: self.path_of(name) }),
            (None, Some((or, not))) if !not.contains(&name) => or.get(name),
            (None, _) => None,
        }
    }

    /// With the members of another mapping where there is none here, but for those that are named.
    pub(super) fn or(self, or: Rc<Self>, not: &'static [&'static str]) -> Self {
        Self { or: Some((or, not)), ..self }
    }

    /// The member of this name, which must be there.
    pub(super) fn required(&self, name: &str, like: &str) -> Result<Field<'n>, BudgetError> {
        let missing = || self.place.error(&self.path_of(name), format!("`{name}` is missing; write {like}"));
        self.get(name).ok_or_else(missing)
    }

    /// All of them, in the order of the file.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'n str, Field<'n>)> {
        self.pairs.iter().map(|(name, _, node)| (*name, Field { node, path: self.path_of(name) }))
    }
}

/// Names longer than this are not compared: nobody misspells one of ours that far.
const NAME_BYTES_MAX: usize = 64;

/// The candidate that takes the fewest edits, where no more than about a third of the name's letters have to change.
pub(super) fn nearest<'k>(name: &str, candidates: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let (edits, near) =
        candidates.map(|candidate| (edits(name, candidate), candidate)).min_by_key(|(edits, _)| *edits)?;
    (edits <= name.chars().count().div_ceil(3)).then_some(near)
}

/// The Levenshtein distance of two names, without regard to case.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(!a.eq_ignore_ascii_case(b));
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
