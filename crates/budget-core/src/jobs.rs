//! How far jobs have come, by what their events say.
//!
//! Holds here: what is known of a job is what its latest event says, and depends on the rows alone, in whatever order they come. Rows that a start
//! does not read are forgotten before it: what lies before the floor.

use std::collections::BTreeMap;

use usage_types::{Dimension, Dimensions, Progress, Scope, TimeUs};

/// How many jobs are known at most, about 200 bytes each; of a job beyond these nothing is told.
const JOBS_MAX: usize = 100_000;

/// The jobs that say how far they have come.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// By job and namespace: the time of the latest event.
    latest: BTreeMap<(String, String), (TimeUs, Progress)>,
    floor: Option<TimeUs>,
}

impl Jobs {
    /// Takes what an event of this time says.
    pub(crate) fn note(&mut self, dimensions: &Dimensions<'_>, time: TimeUs, progress: Progress) {
        let Some(job) = dimensions.get(Dimension::Job) else { return };
        if self.floor.is_some_and(|floor| time < floor) {
            return;
        }
        let key = (job.to_owned(), dimensions.get(Dimension::Namespace).unwrap_or_default().to_owned());
        if let Some(known) = self.latest.get_mut(&key) {
            *known = (*known).max((time, progress));
        } else if self.latest.len() < JOBS_MAX {
            self.latest.insert(key, (time, progress));
        }
    }

    /// What is known of the job of a scope; where that has no namespace the latest of all jobs of the name.
    pub(crate) fn of(&self, scope: &Scope) -> Option<Progress> {
        let job = scope.get(Dimension::Job)?;
        if let Some(namespace) = scope.get(Dimension::Namespace) {
            return self.latest.get(&(job.to_owned(), namespace.to_owned())).map(|(_, progress)| *progress);
        }
        let of_name = self.latest.range((job.to_owned(), String::new())..).take_while(|((name, _), _)| name == job);
        of_name.map(|(_, known)| *known).max().map(|(_, progress)| progress)
    }

    /// Forgets jobs that said nothing since.
    pub(crate) fn forget(&mut self, floor: TimeUs) {
        self.floor = Some(floor);
        self.latest.retain(|_, (time, _)| *time >= floor);
    }
}
