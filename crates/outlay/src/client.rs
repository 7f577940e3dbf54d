//! The commands' side of HTTP: asks a running server, and turns its problems into errors that read well.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde::Deserialize;

use crate::options::DEFAULT_HTTP;
use crate::worker::{ADDRESSES_FILE, Addresses};

/// Name of the file in the data folder that holds a generated admin key.
pub const ADMIN_KEY_FILE: &str = "admin-key";

/// The media type of YAML (RFC 9512).
const YAML: &str = "application/yaml";
/// How often events are given to a server that cannot take them now, and how long is waited between.
const PUBLISH_TRIES: u32 = 30;
const PUBLISH_RETRY: Duration = Duration::from_secs(1);
/// How long is waited before a busy server is asked again.
const BUSY_RETRY: Duration = Duration::from_millis(500);

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

/// What became of published events.
#[derive(Deserialize)]
pub struct EventsAnswer {
    /// How many the log acknowledged.
    #[serde(default)]
    pub accepted: u64,
    /// Those that were refused.
    #[serde(default)]
    pub rejected: Vec<RejectedEvent>,
}

/// An event that was refused.
#[derive(Deserialize)]
pub struct RejectedEvent {
    /// Its place in the request, from 0.
    pub index: usize,
    /// For programs.
    pub code: String,
    /// The field.
    pub field: Option<String>,
    /// For people.
    pub detail: String,
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
        self.get_with_warning(path, params).map(|(body, _)| body)
    }

    /// The same with what the server says is not in the body.
    pub fn get_with_warning(&self, path: &str, params: &[(&str, &str)]) -> Result<(Vec<u8>, Option<String>)> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.url)).context("--url is no URL")?;
        url.query_pairs_mut().extend_pairs(params);
        let answer = self.ask(self.client.get(url))?;
        let warning = answer.headers().get(http_api::WARNING_HEADER);
        let warning = warning.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((body(answer)?, warning))
    }

    /// The body of a `GET`; a server that is busy or still reading is asked again until the deadline.
    pub fn get_until(&self, path: &str, params: &[(&str, &str)], deadline: Instant) -> Result<Vec<u8>> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.url)).context("--url is no URL")?;
        url.query_pairs_mut().extend_pairs(params);
        loop {
            let answer = self.ask(self.client.get(url.clone()))?;
            if answer.status() != StatusCode::SERVICE_UNAVAILABLE || Instant::now() >= deadline {
                return body(answer);
            }
            std::thread::sleep(BUSY_RETRY);
        }
    }

    /// `POST` of a JSON body; the answer, whose body is still to be read.
    pub fn post_for_stream(&self, path: &str, body: &serde_json::Value) -> Result<Response> {
        let answer = self.ask(self.client.post(format!("{}{path}", self.url)).json(body))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        bail!("{}", problem(status, &answer.bytes()?))
    }

    /// `POST` of YAML; the answer's body.
    pub fn post_text(&self, path: &str, text: &str) -> Result<Vec<u8>> {
        self.post_text_with(path, text, &[])
    }

    /// `POST` of YAML with these headers besides; the answer's body.
    pub fn post_text_with(&self, path: &str, text: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>> {
        self.send_text(self.client.post(format!("{}{path}", self.url)), text, headers)
    }

    /// `PUT` of YAML with these headers besides; the answer's body.
    pub fn put_text(&self, path: &str, text: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>> {
        self.send_text(self.client.put(format!("{}{path}", self.url)), text, headers)
    }

    /// `DELETE` with these headers.
    pub fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Result<()> {
        let request = self.client.delete(format!("{}{path}", self.url));
        self.send(with_headers(request, headers)).map(|_empty| ())
    }

    fn send_text(&self, request: RequestBuilder, text: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>> {
        let request = request.header("content-type", YAML);
        self.send(with_headers(request, headers).body(text.to_owned()))
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Publishes events, one a line of native JSON, and waits for their acknowledgement. A server whose log is away or whose queue is full
    /// is asked again for a while; events that it took already count once.
    pub fn post_events(&self, lines: Vec<u8>) -> Result<EventsAnswer> {
        let mut tries = 0;
        loop {
            let request = self.client.post(format!("{}/v1/events", self.url));
            let request = request.header("content-type", "application/x-ndjson").body(lines.clone());
            let answer = self.ask(request)?;
            let status = answer.status();
            let body = answer.bytes()?;
            tries += 1;
            if status == StatusCode::SERVICE_UNAVAILABLE && tries < PUBLISH_TRIES {
                std::thread::sleep(PUBLISH_RETRY);
                continue;
            }
            // The answer to a request of which nothing was taken tells of each event, too.
            match serde_json::from_slice::<EventsAnswer>(&body) {
                Ok(answer) if status.is_success() || !answer.rejected.is_empty() => return Ok(answer),
                _ => bail!("{}", problem(status, &body)),
            }
        }
    }

    fn ask(&self, request: RequestBuilder) -> Result<Response> {
        request
            .bearer_auth(&self.key)
            .send()
            .with_context(|| format!("no server answers at {}; is `outlay serve` running there?", self.url))
    }

    fn send(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        body(self.ask(request)?)
    }
}

/// As bytes: people's words are UTF-8.
fn with_headers(request: RequestBuilder, headers: &[(&str, &str)]) -> RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, value.as_bytes()))
}

/// The body of an answer that is none of a problem.
fn body(answer: Response) -> Result<Vec<u8>> {
    let status = answer.status();
    let body = answer.bytes()?.to_vec();
    if status.is_success() {
        return Ok(body);
    }
    bail!("{}", problem(status, &body))
}

/// What a server says against a request.
fn problem(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let field = problem.field.map(|field| format!(" (field {field})")).unwrap_or_default();
            let text = problem.detail.or(problem.title).unwrap_or_default();
            format!("{text}{field}")
        }
        Err(_) => format!("the server answered {status}: {}", String::from_utf8_lossy(body)),
    }
}

/// Where the server that runs on this folder is, if one does.
fn addresses(data: &Path) -> Option<Addresses> {
    serde_json::from_slice(&std::fs::read(data.join(ADDRESSES_FILE)).ok()?).ok()
}

/// The log of the server that runs on this folder.
pub fn log_at(data: &Path) -> Option<String> {
    addresses(data).map(|addresses| addresses.log)
}

/// The address of the server that runs on this folder, else the default one.
fn running_at(data: &Path) -> String {
    addresses(data).map_or_else(|| format!("http://{DEFAULT_HTTP}"), |addresses| format!("http://{}", addresses.http))
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
