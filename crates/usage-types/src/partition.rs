//! The canonical key of an event, so that a retry meets its first copy and a hot namespace spreads. `event-log` knows which
//! partition Kafka gives a key.

use crate::{Dimension, Role, UsageEvent};

/// The key that an event is published under: its namespace, then its user, else API key, else agent, else session, else id.
/// Written as `namespace/value`. For a correction the id is that of the event that it corrects, so that it stays behind that one.
#[must_use]
pub fn canonical_key(event: &UsageEvent<'_>) -> String {
    let dimensions = &event.dimensions;
    let id = match &event.role {
        Role::Amends(id) | Role::Voids(id) => Some(&**id),
        Role::Usage | Role::Backfill | Role::Adjusts(_) => event.id.as_deref(),
    };
    let member = [Dimension::User, Dimension::ApiKey, Dimension::Agent, Dimension::Session]
        .into_iter()
        .find_map(|dimension| dimensions.get(dimension))
        .or(id)
        .unwrap_or("");
    format!("{}/{member}", dimensions.get(Dimension::Namespace).unwrap_or(""))
}
