//! One client's session: its prepared statements, its portals, and what it asks.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::cancel::Entry;
use crate::command::{Command, command, split};
use crate::error::Severity;
use crate::message::{
    Bind, EARLY_BYTES_MAX, Frontend, MESSAGE_BYTES_MAX, Opening, Outbox, Status, Target, take_message, take_opening,
};
use crate::portal::{Portal, Statement};
use crate::settings::Settings;
use crate::startup::Stream;
use crate::types::state;
use crate::{Backend, Caller, PgError, Question};

/// How long a client may leave what is written to it untaken.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Prepared statements and portals of one session, each.
const KEPT_MAX: usize = 4096;

/// Why something was not done to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The client is told.
    Error(PgError),
    /// There is nobody to tell.
    Gone(io::Error),
}

impl From<PgError> for Stop {
    fn from(error: PgError) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// The connection with what has come and what is to go.
pub(crate) struct Client {
    stream: Stream,
    inbox: BytesMut,
    pub outbox: Outbox,
    pub cancelled: Option<watch::Receiver<()>>,
}

impl Client {
    pub fn new(stream: Stream) -> Self {
        Self { stream, inbox: BytesMut::new(), outbox: Outbox::default(), cancelled: None }
    }

    /// The bare connection, before TLS. What came before TLS was asked for would be taken as if it had come over it.
    pub fn into_plain(self) -> io::Result<TcpStream> {
        match self.stream {
            Stream::Plain(stream) if self.inbox.is_empty() => Ok(stream),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The next message of those that come first.
    pub async fn opening(&mut self) -> Result<Opening, Stop> {
        loop {
            if let Some(opening) = take_opening(&mut self.inbox)? {
                return Ok(opening);
            }
            self.read(EARLY_BYTES_MAX).await?;
        }
    }

    /// The next message.
    pub async fn message(&mut self, bytes_max: usize) -> Result<Frontend, Stop> {
        loop {
            if let Some(message) = take_message(&mut self.inbox, bytes_max)? {
                return Ok(message);
            }
            self.read(bytes_max).await?;
        }
    }

    async fn read(&mut self, bytes_max: usize) -> Result<(), Stop> {
        read(&mut self.stream, &mut self.inbox, bytes_max).await.map_err(Stop::Gone)
    }

    /// A single byte, which answers a question for encryption.
    pub async fn answer(&mut self, byte: u8) -> io::Result<()> {
        self.stream.write_all(&[byte]).await?;
        self.stream.flush().await
    }

    /// Sends what is to go.
    pub async fn flush(&mut self) -> Result<(), Stop> {
        let write = async {
            self.stream.write_all(&self.outbox.0).await?;
            self.stream.flush().await
        };
        let written = tokio::time::timeout(WRITE_TIMEOUT, write).await;
        self.outbox.0.clear();
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Stop::Gone)
    }

    /// Waits for what takes a while, for as long as the client is there and does not cancel it.
    pub async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let Self { stream, inbox, cancelled, .. } = self;
        let cancel = async {
            let told = match cancelled {
                Some(cancelled) => cancelled.changed().await.is_ok(),
                None => false,
            };
            if !told {
                std::future::pending::<()>().await;
            }
        };
        let leave = async {
            // What it says meanwhile is for later. Of one that says very much it is not seen when it leaves.
            while inbox.len() < MESSAGE_BYTES_MAX {
                if let Err(error) = read(stream, inbox, MESSAGE_BYTES_MAX).await {
                    return error;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = cancel => Err(PgError::cancelled().into()),
            error = leave => Err(Stop::Gone(error)),
        }
    }

    /// Forgets a request to cancel that came before there was anything to cancel.
    fn begin(&mut self) {
        if let Some(cancelled) = &mut self.cancelled {
            cancelled.mark_unchanged();
        }
    }
}

/// Reads once; the end is an error.
async fn read(stream: &mut Stream, inbox: &mut BytesMut, bytes_max: usize) -> io::Result<()> {
    // A message that is too long is refused by its length before so much of it is here.
    inbox.reserve((bytes_max + 8).saturating_sub(inbox.len()).clamp(1, 8 << 10));
    match stream.read_buf(inbox).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// A session of a client that was let in.
pub(crate) struct Session {
    client: Client,
    backend: Arc<dyn Backend>,
    caller: Caller,
    settings: Settings,
    stopping: watch::Receiver<bool>,
    status: Status,
    statements: HashMap<String, Statement>,
    portals: HashMap<String, Portal>,
    /// After an error in the extended protocol everything up to the next `Sync` is passed over.
    skips: bool,
    _entry: Entry,
}

impl Session {
    pub fn new(
        client: Client,
        backend: Arc<dyn Backend>,
        caller: Caller,
        settings: Settings,
        entry: Entry,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let (statements, portals) = (HashMap::new(), HashMap::new());
        let status = Status::Idle;
        Self { client, backend, caller, settings, stopping, status, statements, portals, skips: false, _entry: entry }
    }

    /// Answers until the client leaves, breaks the protocol, or the server stops.
    pub async fn run(mut self) {
        loop {
            let message = tokio::select! {
                message = self.client.message(MESSAGE_BYTES_MAX) => message,
                _ = self.stopping.wait_for(|stopping| *stopping) => {
                    Err(PgError::fatal(state::ADMIN_SHUTDOWN, "the server stops").into())
                }
            };
            let ended = match message {
                Ok(Frontend::Terminate) => return,
                Ok(message) => self.answer(message).await,
                Err(stop) => Err(stop),
            };
            match ended {
                Ok(()) => {}
                Err(Stop::Gone(error)) => {
                    tracing::debug!(%error, "a client of PostgreSQL's protocol left");
                    return;
                }
                Err(Stop::Error(error)) => {
                    self.client.outbox.error(&error);
                    let _gone = self.client.flush().await;
                    return;
                }
            }
        }
    }

    /// Answers one message; an error that comes out of here ends the session.
    async fn answer(&mut self, message: Frontend) -> Result<(), Stop> {
        self.client.begin();
        match message {
            Frontend::Query(sql) => {
                self.skips = false;
                let answered = self.simple(&sql).await;
                self.tell(answered)?;
                self.client.outbox.ready(self.status);
                self.client.flush().await
            }
            Frontend::Sync => {
                self.skips = false;
                if self.status == Status::Idle {
                    self.portals.clear();
                }
                self.client.outbox.ready(self.status);
                self.client.flush().await
            }
            Frontend::Flush => self.client.flush().await,
            Frontend::Password(_) => Err(PgError::protocol("a password that nobody asked for").into()),
            Frontend::Ignored | Frontend::Terminate => Ok(()),
            _ if self.skips => Ok(()),
            message => {
                let answered = self.extended(message).await;
                self.skips = answered.is_err();
                self.tell(answered)
            }
        }
    }

    /// Tells an error after which the session goes on.
    fn tell(&mut self, answered: Result<(), Stop>) -> Result<(), Stop> {
        match answered {
            Err(Stop::Error(error)) if error.severity == Severity::Error => {
                if self.status == Status::Transaction {
                    self.status = Status::Failed;
                }
                self.client.outbox.error(&error);
                Ok(())
            }
            other => other,
        }
    }

    async fn simple(&mut self, sql: &str) -> Result<(), Stop> {
        let statements = split(sql);
        if statements.is_empty() {
            self.client.outbox.nothing_asked();
        }
        for sql in statements {
            let command = command(sql)?;
            let question = Question { sql: sql.to_owned(), parameters: Vec::new() };
            let mut portal = Portal::new(command, question, Vec::new());
            if self.describe_portal(&mut portal).await? {
                portal.tell_columns(&mut self.client.outbox);
            }
            self.execute(&mut portal, 0).await?;
        }
        Ok(())
    }

    async fn extended(&mut self, message: Frontend) -> Result<(), Stop> {
        match message {
            Frontend::Parse { name, sql, types } => self.parse(name, &sql, &types)?,
            Frontend::Bind(bind) => self.bind(bind).await?,
            Frontend::Describe(Target::Statement(name)) => self.describe_statement(&name).await?,
            Frontend::Describe(Target::Portal(name)) => {
                let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
                let described = self.describe_portal(&mut portal).await;
                if described? {
                    portal.tell_columns(&mut self.client.outbox);
                } else {
                    self.client.outbox.no_data();
                }
                self.portals.insert(name, portal);
            }
            Frontend::Execute { portal: name, rows_max } => {
                let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
                self.execute(&mut portal, rows_max).await?;
                self.portals.insert(name, portal);
            }
            Frontend::Close(Target::Statement(name)) => {
                self.statements.remove(&name);
                self.client.outbox.closed();
            }
            Frontend::Close(Target::Portal(name)) => {
                self.portals.remove(&name);
                self.client.outbox.closed();
            }
            _ => {}
        }
        Ok(())
    }

    fn parse(&mut self, name: String, sql: &str, types: &[u32]) -> Result<(), PgError> {
        let mut statements = split(sql);
        if statements.len() > 1 {
            return Err(PgError::new(state::SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement"));
        }
        if self.statements.len() >= KEPT_MAX && !self.statements.contains_key(&name) {
            return Err(PgError::new(state::LIMIT_EXCEEDED, format!("more than {KEPT_MAX} prepared statements")));
        }
        let sql = statements.pop().unwrap_or_default();
        self.statements.insert(name, Statement::new(command(sql)?, sql, types.to_vec()));
        self.client.outbox.parsed();
        Ok(())
    }

    async fn bind(&mut self, bind: Bind) -> Result<(), Stop> {
        if self.portals.len() >= KEPT_MAX && !self.portals.contains_key(&bind.portal) {
            return Err(PgError::new(state::LIMIT_EXCEEDED, format!("more than {KEPT_MAX} portals")).into());
        }
        let statement = self.statements.get(&bind.statement).ok_or_else(|| no_statement(&bind.statement))?;
        let portal = statement.bind(&bind)?;
        self.portals.insert(bind.portal, portal);
        self.client.outbox.bound();
        Ok(())
    }

    async fn describe_statement(&mut self, name: &str) -> Result<(), Stop> {
        let statement = self.statements.get_mut(name).ok_or_else(|| no_statement(name))?;
        if statement.is_query() && statement.description.is_none() {
            check_transaction(self.status)?;
            let described = self.backend.describe(&self.caller, statement.question());
            statement.description = Some(self.client.attend(described).await??);
        }
        statement.tell(&self.settings, &mut self.client.outbox)?;
        Ok(())
    }

    /// Finds the columns of a portal, by beginning its query where it is one; whether it has any.
    async fn describe_portal(&mut self, portal: &mut Portal) -> Result<bool, Stop> {
        if portal.is_query() && !portal.is_begun() {
            check_transaction(self.status)?;
            let begun = self.backend.run(&self.caller, portal.question.clone());
            portal.begin(self.client.attend(begun).await??);
        }
        if let Command::Show(name) = &portal.command {
            portal.begin_show(name.clone(), &self.settings)?;
        }
        Ok(portal.is_begun())
    }

    async fn execute(&mut self, portal: &mut Portal, rows_max: usize) -> Result<(), Stop> {
        if self.describe_portal(portal).await? {
            return portal.send(&mut self.client, rows_max).await;
        }
        let tag = self.obey(&portal.command)?;
        match tag {
            Some(tag) => self.client.outbox.complete(&tag),
            None => self.client.outbox.nothing_asked(),
        }
        Ok(())
    }

    /// Does what concerns the session alone; its tag.
    fn obey(&mut self, command: &Command) -> Result<Option<String>, PgError> {
        if !matches!(command, Command::Commit | Command::Rollback) {
            check_transaction(self.status)?;
        }
        let tag = match command {
            Command::Empty => return Ok(None),
            Command::Begin(tag) => {
                self.status = Status::Transaction;
                tag
            }
            Command::Commit | Command::Rollback => {
                let failed = self.status == Status::Failed;
                self.status = Status::Idle;
                // What failed is rolled back by a commit, too.
                if *command == Command::Commit && !failed { "COMMIT" } else { "ROLLBACK" }
            }
            Command::Set(name, value) => {
                self.settings.set(name, value);
                "SET"
            }
            Command::Deallocate(Some(name)) => {
                self.statements.remove(name).ok_or_else(|| no_statement(name))?;
                "DEALLOCATE"
            }
            Command::Deallocate(None) => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
            Command::Discard => {
                self.statements.clear();
                self.portals.clear();
                "DISCARD ALL"
            }
            Command::Nothing(tag) => tag,
            Command::Refused(what) => {
                let message = format!("cannot execute {what} in a read-only transaction");
                return Err(PgError::new(state::READ_ONLY, message).hint("only queries are possible here"));
            }
            // These have rows and do not come here.
            Command::Query | Command::Show(_) => "SELECT 0",
        };
        Ok(Some(tag.to_owned()))
    }
}

fn check_transaction(status: Status) -> Result<(), PgError> {
    if status == Status::Failed {
        let message = "current transaction is aborted, commands ignored until end of transaction block";
        return Err(PgError::new(state::IN_FAILED_TRANSACTION, message));
    }
    Ok(())
}

fn no_statement(name: &str) -> PgError {
    PgError::new(state::UNDEFINED_STATEMENT, format!("prepared statement \"{name}\" does not exist"))
}

fn no_portal(name: &str) -> PgError {
    PgError::new(state::UNDEFINED_CURSOR, format!("portal \"{name}\" does not exist"))
}
