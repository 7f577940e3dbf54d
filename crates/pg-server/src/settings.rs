//! What `SHOW` tells and what clients are told when they come in. Only names of a client can be set; the rest is how things are.

/// The version of PostgreSQL whose protocol and catalog tools find here.
pub(crate) const SERVER_VERSION: &str = "16.0";

/// Settings that are the same for all sessions, as `SHOW` has them.
const FIXED: [(&str, &str); 22] = [
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_read_only", "on"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("search_path", "\"$user\", public"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "160000"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("timezone", "UTC"),
    ("transaction_deferrable", "off"),
    ("transaction_isolation", "repeatable read"),
    ("transaction_read_only", "on"),
];

/// Told to a client that comes in: drivers decide by them how they read values.
pub(crate) const TOLD: [(&str, &str); 11] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "on"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "off"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

/// The settings of a session.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    application_name: String,
}

impl Settings {
    /// Takes a setting. All but the client's name stay what they are: a client that sets what it can do without goes on.
    pub fn set(&mut self, name: &str, value: &str) {
        if name == "application_name" {
            value.clone_into(&mut self.application_name);
        }
    }

    /// A setting, where there is such.
    pub fn get(&self, name: &str) -> Option<&str> {
        if name == "application_name" {
            return Some(&self.application_name);
        }
        FIXED.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}
