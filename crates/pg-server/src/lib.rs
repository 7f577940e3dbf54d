//! PostgreSQL's wire protocol 3.0 for queries that somebody else answers: psql, JDBC, psycopg, SQLAlchemy, Grafana and whatever else speaks
//! it ask a [`Backend`] for rows of Arrow.
//!
//! Holds here: nothing can be written. A session's transactions are no-ops, since every query sees what is there when it begins. A query
//! ends when its client cancels it or leaves, because its rows are dropped then.
//! Deliberately absent: SQL. A statement is looked at as far as its first words, to tell what is no query; what it means is the backend's
//! business, the tables that tools look for in `pg_catalog` included.
//! The messages are our own code and not the crate pgwire's: that one reads a short `Bind` past its end and panics.

mod backend;
mod cancel;
mod command;
mod encode;
mod error;
mod message;
mod numeric;
mod parameter;
mod portal;
mod server;
mod session;
mod settings;
mod startup;
mod tls;
mod types;

pub use backend::{Backend, Caller, Description, Parameter, Question, Rows};
pub use error::{PgError, Severity};
pub use server::{PgConfig, PgServer};
pub use tls::{TlsError, tls};
pub use types::{ParameterType, state};
