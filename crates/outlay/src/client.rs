//! The commands' side of HTTP: asks a running server, and turns its problems into errors that read well.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use reqwest::blocking::{Client, RequestBuilder};
use serde::Deserialize;

use crate::options::DEFAULT_HTTP;
use crate::worker::{ADDRESSES_FILE, Addresses};

/// Name of the file in the data folder that holds a generated admin key.
pub const ADMIN_KEY_FILE: &str = "admin-key";

/// Which server to ask.
#[derive(Debug, Clone, Args)]
pub struct ServerOptions {
    /// A running server [default: the one that runs on the data folder, else http://127.0.0.1:7878]
    #[arg(long, env = "OUTLAY_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Its key [default: the one in the data folder]
    #[arg(long, env = "OUTLAY_ADMIN_KEY", value_name = "KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// The data folder: for the generated key and, with --offline, for the lake
    #[arg(long, env = "OUTLAY_DATA", value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
}

/// A server with its key.
pub struct Server {
    client: Client,
    url: String,
    key: String,
}

/// `application/problem+json`, as far as people read it.
#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    field: Option<String>,
}

impl Server {
    /// Finds the server's address and key.
    pub fn new(options: &ServerOptions) -> Result<Self> {
        let key = match &options.key {
            Some(key) => key.clone(),
            None => stored_key(&options.data)?.with_context(|| {
                format!(
                    "no key: give --key or OUTLAY_ADMIN_KEY ({} holds none)",
                    options.data.join(ADMIN_KEY_FILE).display()
                )
            })?,
        };
        let url = options.url.clone().unwrap_or_else(|| running_at(&options.data));
        // A query may take as long as the server lets it; only connecting is bounded here.
        let client = Client::builder().connect_timeout(Duration::from_secs(5)).timeout(None).build()?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), key })
    }

    /// `GET` of a path with parameters; the body.
    pub fn get(&self, path: &str, params: &[(&str, &str)]) -> Result<Vec<u8>> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.url)).context("--url is no URL")?;
        url.query_pairs_mut().extend_pairs(params);
        self.send(self.client.get(url))
    }

    /// `POST` of a JSON body; the answer's body.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Result<Vec<u8>> {
        self.send(self.client.post(format!("{}{path}", self.url)).json(body))
    }

    fn send(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        let answer = request
            .bearer_auth(&self.key)
            .send()
            .with_context(|| format!("no server answers at {}; is `outlay serve` running there?", self.url))?;
        let status = answer.status();
        let body = answer.bytes()?.to_vec();
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => {
                let field = problem.field.map(|field| format!(" (field {field})")).unwrap_or_default();
                let text = problem.detail.or(problem.title).unwrap_or_default();
                bail!("{text}{field}")
            }
            Err(_) => bail!("the server answered {status}: {}", String::from_utf8_lossy(&body)),
        }
    }
}

/// The address of the server that runs on this folder, else the default one.
fn running_at(data: &Path) -> String {
    let addresses = std::fs::read(data.join(ADDRESSES_FILE)).ok();
    let addresses = addresses.and_then(|json| serde_json::from_slice::<Addresses>(&json).ok());
    addresses.map_or_else(|| format!("http://{DEFAULT_HTTP}"), |addresses| format!("http://{}", addresses.http))
}

/// The admin key that a server generated into its data folder, where there is one.
pub fn stored_key(data: &Path) -> Result<Option<String>> {
    let path = data.join(ADMIN_KEY_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
