//! Requests to cancel, which come over a connection of their own and name a session by its number and secret.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

/// The sessions that can be told to cancel.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    last: AtomicI32,
    open: Mutex<HashMap<i32, (i32, watch::Sender<()>)>>,
}

/// A session's entry; it is gone with this value.
#[derive(Debug)]
pub(crate) struct Entry {
    sessions: Arc<Sessions>,
    pub process: i32,
    pub secret: i32,
}

impl Sessions {
    /// Enters a session with a secret that nobody can guess; it is told of cancellations by the receiver.
    pub fn enter(self: &Arc<Self>) -> Result<(Entry, watch::Receiver<()>), getrandom::Error> {
        let mut secret = [0; 4];
        getrandom::fill(&mut secret)?;
        let secret = i32::from_be_bytes(secret);
        let (sender, receiver) = watch::channel(());
        let process = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.open.lock().insert(process, (secret, sender));
        Ok((Entry { sessions: Arc::clone(self), process, secret }, receiver))
    }

    /// Tells a session, where the secret is its own.
    pub fn cancel(&self, process: i32, secret: i32) {
        if let Some((own, sender)) = self.open.lock().get(&process)
            && *own == secret
        {
            sender.send_replace(());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.open.lock().remove(&self.process);
    }
}
