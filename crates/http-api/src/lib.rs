//! The HTTP surface of Outlay: routes, authentication, event streams, the OpenAPI document and the web page.
//!
//! Holds here: every answer that is an error is `application/problem+json`; every `/v1` route needs the admin key; every
//! read from and write to a client has a deadline and a size limit; nothing that a client can make grow is unbounded.
//! Deliberately absent: Kafka, the lake, budgets and mail. They stand behind the [`Engine`] trait, which the binary
//! implements, so this crate can be tested whole with an engine of its own. TLS is absent too: a proxy ends it.

mod auth;
mod budgets;
mod check;
mod clock;
mod config;
mod engine;
mod error;
mod increases;
mod intake;
mod invoices;
mod metrics;
pub mod openapi;
mod page;
mod problem;
mod router;
mod routes;
mod schema;
mod server;
mod simulation;
mod standing;
mod tokens;
mod view;
mod write_timeout;

pub use budgets::{
    BudgetsChange, BudgetsPlan, BudgetsSource, BudgetsWrite, Changed, PlannedAction, PlannedChange, PlannedEffect,
    PlannedField, PlannedScope, Precondition, Stated, Tagged,
};
pub use check::{
    CheckAnswer, CheckConfig, CheckQuestion, CheckReason, Enforcement, FailPolicy, Reservation, ShadowFinding,
    ThrottleFinding,
};
pub use config::HttpConfig;
pub use engine::{
    Ack, Engine, IntakeRecord, OutputFormat, PublishError, QueryBody, QueryOutput, SqlRequest, WARNING_HEADER,
};
pub use error::HttpError;
pub use http_listen::Secret;
pub use increases::{Act, Granted, IncreaseAnswer, IncreaseFilter, IncreaseRequest, IncreaseState, PresentLimit};
pub use invoices::InvoiceView;
pub use problem::ApiProblem;
pub use router::{Method, routes};
pub use server::Server;
pub use simulation::{
    SimulatedAlert, SimulatedBlock, SimulatedBudget, SimulatedBudgets, SimulatedRollback, SimulatedScope,
    SimulatedShadow, SimulatedSpend, SimulationRequest, SimulationView,
};
pub use standing::{StandingQuery, StandingView};
pub use view::{
    BalanceQuery, BalanceRow, HealthRow, LagView, LakeView, LogKind, LogView, MailRow, MailState, RejectionRow,
    ReportInfo, ReportParameter, StatusView, Totals, UnpricedRow,
};
