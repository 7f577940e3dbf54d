//! Asking a schema registry, by the API of Confluent's, which the others offer as well.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use usage_intake::{Encoding, WriterSchema};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer: a hundred times our own schema.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The most schemas that one may refer to, over all levels.
const REFERENCES_MAX: usize = 32;

/// A registry.
pub struct Registry {
    client: Client,
    url: Url,
}

/// What it says of an id.
pub struct Answer {
    /// The schema, or in its place why records of it are refused.
    pub schema: WriterSchema,
    /// Whether the registry knows the id, which is then its for ever.
    pub is_known: bool,
}

/// A schema, by its id or as a version of a subject.
#[derive(Deserialize)]
struct Registered {
    schema: String,
    #[serde(default, rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: u32,
}

/// Why there is no schema, said by the registry itself.
#[derive(Deserialize)]
struct Missing {
    error_code: u32,
}

impl Registry {
    /// The registry at this address.
    pub fn new(url: Url) -> Result<Self> {
        let client =
            Client::builder().timeout(TIMEOUT).build().context("cannot make a client for --schema-registry")?;
        Ok(Self { client, url })
    }

    /// Asks for a schema.
    ///
    /// # Errors
    /// The registry gave no answer to rely on: it is to be asked again.
    pub async fn ask(&self, id: u32) -> Result<Answer> {
        let unknown = || Answer {
            schema: WriterSchema::unknown(format!(
                "the schema registry knows no schema with the id {id}; register it, or publish with a serializer that does"
            )),
            is_known: false,
        };
        // They are Java's positive integers.
        if i32::try_from(id).is_err() {
            return Ok(unknown());
        }
        let Some(found) = self.get(&["schemas", "ids", &id.to_string()]).await? else { return Ok(unknown()) };
        let kind = found.schema_type.as_deref().unwrap_or("AVRO");
        let Some(encoding) = Encoding::named(kind) else {
            let message = format!("schema {id} is of the type {kind:?}, which is not read; use AVRO, PROTOBUF or JSON");
            return Ok(Answer { schema: WriterSchema::unknown(message), is_known: true });
        };
        let references = if encoding == Encoding::Avro { self.references(found.references).await? } else { Vec::new() };
        Ok(Answer { schema: WriterSchema::new(encoding, &found.schema, &references), is_known: true })
    }

    /// The texts of what a schema refers to, and of what that refers to.
    async fn references(&self, mut wanted: Vec<Reference>) -> Result<Vec<String>> {
        let (mut texts, mut seen) = (Vec::new(), Vec::new());
        while let Some(Reference { subject, version }) = wanted.pop() {
            if seen.contains(&(subject.clone(), version)) || seen.len() == REFERENCES_MAX {
                continue;
            }
            // One that is gone is missed when the schema is read.
            if let Some(found) = self.get(&["subjects", &subject, "versions", &version.to_string()]).await? {
                texts.push(found.schema);
                wanted.extend(found.references);
            }
            seen.push((subject, version));
        }
        Ok(texts)
    }

    /// `None` where the registry says that there is no such thing. Another server's 404 is no such answer.
    async fn get(&self, path: &[&str]) -> Result<Option<Registered>> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let answer = self.client.get(url).send().await.map_err(reqwest::Error::without_url)?;
        let status = answer.status();
        let body = body(answer).await?;
        if status == StatusCode::NOT_FOUND
            && serde_json::from_slice(&body).is_ok_and(|missing: Missing| missing.error_code / 100 == 404)
        {
            return Ok(None);
        }
        if !status.is_success() {
            let said = String::from_utf8_lossy(&body[..body.len().min(200)]).replace(char::is_control, " ");
            bail!("it answered {status}: {said}");
        }
        serde_json::from_slice(&body).context("its answer is not that of a schema registry; check the URL").map(Some)
    }
}

async fn body(mut answer: Response) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            bail!("its answer is larger than {ANSWER_BYTES_MAX} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
