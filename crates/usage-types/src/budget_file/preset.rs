//! Presets: what several budgets do alike when they are reached, under one name.

use std::rc::Rc;

use crate::budget_file::field::{Field, Members, nearest};
use crate::budget_file::mode::mode;
use crate::budget_file::overage::Overage;
use crate::budget_file::predict::predict;
use crate::budget_file::tree::Node;
use crate::budget_file::{alerts, status};
use crate::{BudgetError, Dimension, DimensionSet};

/// The presets that every file has, unless it has others of these names. In production nobody is refused, and the first mail comes at half. A
/// job of CI fails at once instead of waiting for the window to turn, and is mailed about when that happens.
pub(super) const BUILT_IN: &str = "
production: { mode: soft, alerts: { at: [0.5, 0.8, 1.0] } }
ci: { mode: hard, http_status: 403, alerts: { at: [1.0] } }
";

/// What a preset can say.
const PRESET: [&str; 7] = ["mode", "canary", "rollback", "overage", "predict", "alerts", "http_status"];
/// What belongs to the mode: a budget with a mode of its own takes none of these from its preset.
const OF_MODE: [&str; 3] = ["mode", "canary", "rollback"];

/// The presets of a file.
#[derive(Default)]
pub(super) struct Presets<'n>(Vec<(&'n str, Rc<Members<'n>>)>);

impl<'n> Presets<'n> {
    /// Those of the file, then those that are built in and not written in it.
    pub(super) fn of(file: Option<Field<'n>>, built_in: Option<&'n Node>) -> Result<Self, BudgetError> {
        let mut presets = Self::default();
        let built_in = built_in.map(|node| Field { node, path: "presets".to_owned() });
        file.iter().chain(&built_in).try_for_each(|field| presets.read(field))?;
        Ok(presets)
    }

    /// Adds the presets of a mapping; one that is there already stays.
    fn read(&mut self, field: &Field<'n>) -> Result<(), BudgetError> {
        let like = "presets by name, like `presets: { staging: { mode: shadow } }`";
        for (name, field) in field.any_members(like)?.iter() {
            let members = field.members(&PRESET, "what its budgets do, like `mode: soft`")?;
            // Looked at also where no budget uses it. Whether a budget has scopes to take a share of is its own matter.
            mode(&members, DimensionSet::of(&[Dimension::User]))?;
            members.get("overage").map_or(Ok(()), |field| Overage::read(&field).map(drop))?;
            members.get("predict").map_or(Ok(()), |field| predict(&field, None).map(drop))?;
            members.get("alerts").map_or(Ok(()), |field| alerts(&field).map(drop))?;
            members.get("http_status").map_or(Ok(()), |field| status(&field).map(drop))?;
            if self.find(name).is_none() {
                self.0.push((name, Rc::new(members)));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Rc<Members<'n>>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, members)| members)
    }

    /// A budget's members, with those of its preset where it has none of its own.
    pub(super) fn fill(&self, members: Members<'n>) -> Result<Members<'n>, BudgetError> {
        let Some(field) = members.get("preset") else { return Ok(members) };
        let name = field.text("the name of a preset, like ci")?;
        let Some(preset) = self.find(name) else {
            let known = || self.0.iter().map(|(name, _)| *name);
            let hint = match nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of {}, or write it under `presets`", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(field.error(format!("there is no preset {name:?}; {hint}")));
        };
        let not = if members.get("mode").is_some() { &OF_MODE[..] } else { &[] };
        Ok(members.or(Rc::clone(preset), not))
    }
}
