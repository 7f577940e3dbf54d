//! How Outlay is configured: flags, `OUTLAY_…` variables and a file, in this order of precedence, with one name for each setting.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use http_api::{CheckConfig, FailPolicy};
use reqwest::Url;
use serde::Deserialize;

/// Where a server listens unless told otherwise.
pub const DEFAULT_HTTP: &str = "127.0.0.1:7878";
/// Where the embedded log listens unless told otherwise: Kafka's own port.
pub const DEFAULT_LOG: &str = "127.0.0.1:9092";
/// Where OTLP over gRPC is taken unless told otherwise: its registered port.
pub const DEFAULT_OTLP_GRPC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);
/// Where OTLP over HTTP is taken unless told otherwise, beside the main address: its registered port.
pub const DEFAULT_OTLP_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4318);

/// Where a listener of OTLP is, if anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpListen {
    /// Nowhere.
    Off,
    /// Here; port 0 takes a free one.
    At(SocketAddr),
}

impl FromStr for OtlpListen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::At)
            .map_err(|_| format!("`{text}` is no address; write one like 127.0.0.1:4317, or `off`"))
    }
}

impl<'de> Deserialize<'de> for OtlpListen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The settings of `outlay serve`. Each is a flag, a variable `OUTLAY_…` and a key of the configuration file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ServeOptions {
    /// Folder that holds everything Outlay keeps: the lake, the embedded log, mails, the generated admin key
    #[arg(long, env = "OUTLAY_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Kafka bootstrap servers; without it the embedded log is used
    #[arg(long, env = "OUTLAY_KAFKA", value_name = "HOST:PORT", conflicts_with = "log")]
    pub kafka: Option<String>,
    /// Any librdkafka property for the Kafka clients, like `security.protocol=ssl`; may be repeated
    #[arg(long, env = "OUTLAY_KAFKA_PROPERTY", value_name = "KEY=VALUE", value_delimiter = ' ')]
    pub kafka_property: Vec<String>,
    /// Where the embedded log listens [default: 127.0.0.1:9092]
    #[arg(long, env = "OUTLAY_LOG", value_name = "ADDR")]
    pub log: Option<SocketAddr>,
    /// Partitions of `usage.events` where it has to be created [default: 64, embedded log: 8]
    #[arg(long, env = "OUTLAY_PARTITIONS", value_name = "N")]
    pub partitions: Option<i32>,
    /// Replicas of topics that have to be created [default: the cluster's default]
    #[arg(long, env = "OUTLAY_REPLICATION", value_name = "N")]
    pub replication: Option<i32>,
    /// Where HTTP is served [default: 127.0.0.1:7878]
    #[arg(long, env = "OUTLAY_HTTP", value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Where OTLP over gRPC is taken, or `off` [default: 127.0.0.1:4317, where that is free]
    #[arg(long, env = "OUTLAY_OTLP_GRPC", value_name = "ADDR")]
    pub otlp_grpc: Option<OtlpListen>,
    /// Where OTLP over HTTP is taken beside the main address, or `off` [default: 127.0.0.1:4318, where that is free]
    #[arg(long, env = "OUTLAY_OTLP_HTTP", value_name = "ADDR")]
    pub otlp_http: Option<OtlpListen>,
    /// Budgets file (YAML); read again whenever it changes
    #[arg(long, env = "OUTLAY_BUDGETS", value_name = "FILE")]
    pub budgets: Option<PathBuf>,
    /// Price book (YAML) instead of the one that is shipped
    #[arg(long, env = "OUTLAY_PRICES", value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// Who bears shared cost in the reports chargeback and allocation (YAML); read for each report
    #[arg(long, env = "OUTLAY_ALLOCATION", value_name = "FILE")]
    pub allocation: Option<PathBuf>,
    /// What the names of other formats mean (YAML): CloudEvents, headers, LiteLLM's metadata, OpenTelemetry's attributes
    #[arg(long, env = "OUTLAY_INTAKE", value_name = "FILE")]
    pub intake: Option<PathBuf>,
    /// Schema registry for records in Avro, Protobuf and JSON with its prefix, like `http://user:password@registry:8081`
    #[arg(long, env = "OUTLAY_SCHEMA_REGISTRY", value_name = "URL", hide_env_values = true)]
    pub schema_registry: Option<String>,
    /// Mail server, like `smtp://user:password@mail.example.com:587?tls=required`; without it mails are files in the data folder
    #[arg(long, env = "OUTLAY_SMTP", value_name = "URL", hide_env_values = true)]
    pub smtp: Option<String>,
    /// Extra root certificate (PEM) for the mail server
    #[arg(long, env = "OUTLAY_SMTP_CA", value_name = "FILE")]
    pub smtp_ca: Option<PathBuf>,
    /// Sender of alert mails [default: Outlay <outlay@localhost>]
    #[arg(long, env = "OUTLAY_MAIL_FROM", value_name = "ADDRESS")]
    pub mail_from: Option<String>,
    /// Rows are committed to the lake at least this often, in milliseconds [default: 2000]
    #[arg(long, env = "OUTLAY_COMMIT_INTERVAL_MS", value_name = "MS")]
    pub commit_interval_ms: Option<u64>,
    /// Rows are committed at the latest when there are so many [default: 500000]
    #[arg(long, env = "OUTLAY_COMMIT_ROWS", value_name = "N")]
    pub commit_rows: Option<usize>,
    /// Hours for which an event's id is remembered; older events count as too late [default: 24]
    #[arg(long, env = "OUTLAY_DEDUP_HOURS", value_name = "H")]
    pub dedup_hours: Option<u32>,
    /// The most ids remembered, whatever their age [default: 20000000]
    #[arg(long, env = "OUTLAY_DEDUP_IDS", value_name = "N")]
    pub dedup_ids: Option<usize>,
    /// Largest accepted event, in bytes [default: 262144]
    #[arg(long, env = "OUTLAY_EVENT_BYTES_MAX", value_name = "BYTES")]
    pub event_bytes_max: Option<usize>,
    /// Memory that one SQL query may use, in MiB [default: 1024]
    #[arg(long, env = "OUTLAY_SQL_MEMORY_MIB", value_name = "MIB")]
    pub sql_memory_mib: Option<u64>,
    /// Seconds that one SQL query may take, sending its result included [default: 30]
    #[arg(long, env = "OUTLAY_SQL_TIMEOUT_S", value_name = "S")]
    pub sql_timeout_s: Option<u64>,
    /// The most rows that one SQL query may answer with [default: 1000000]
    #[arg(long, env = "OUTLAY_SQL_ROWS_MAX", value_name = "N")]
    pub sql_rows_max: Option<u64>,
    /// Where PostgreSQL's protocol is served, like 127.0.0.1:5432 [default: nowhere]
    #[arg(long, env = "OUTLAY_PG", value_name = "ADDR")]
    pub pg: Option<SocketAddr>,
    /// Certificates (PEM) for TLS of PostgreSQL's protocol, the server's first; without them only clients of this machine are let in
    #[arg(long, env = "OUTLAY_PG_TLS_CERT", value_name = "FILE", requires = "pg_tls_key")]
    pub pg_tls_cert: Option<PathBuf>,
    /// The private key (PEM) of that certificate
    #[arg(long, env = "OUTLAY_PG_TLS_KEY", value_name = "FILE", requires = "pg_tls_cert")]
    pub pg_tls_key: Option<PathBuf>,
    /// The admin key; without it one is generated into the data folder and printed once
    #[arg(long, env = "OUTLAY_ADMIN_KEY", value_name = "KEY", hide_env_values = true)]
    pub admin_key: Option<String>,
    /// What checks answer while balances are behind: `open` (all may spend), `closed` (503) or `last-known` (those may
    /// spend whom neither a balance nor the last decision blocks) [default: last-known]
    #[arg(long, env = "OUTLAY_CHECK_FAIL", value_name = "POLICY")]
    pub check_fail: Option<FailPolicy>,
    /// How far balances may be behind the log before that, in milliseconds [default: 5000]
    #[arg(long, env = "OUTLAY_CHECK_LAG_MS", value_name = "MS")]
    pub check_lag_ms: Option<u64>,
    /// Log lines as `text` or `json` [default: text on a terminal, else json]
    #[arg(long, env = "OUTLAY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Configuration file (YAML) with the same names as the flags
    #[arg(long, env = "OUTLAY_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl ServeOptions {
    /// Fills what neither flag nor variable gave from the configuration file.
    pub fn with_file(self) -> Result<Self> {
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read --config {}", path.display()))?;
        let file: Self = serde_saphyr::from_str(&text).with_context(|| format!("in --config {}", path.display()))?;
        if (self.kafka.is_some() && file.log.is_some()) || (self.log.is_some() && file.kafka.is_some()) {
            bail!("`kafka` and `log` exclude each other; one is in {}, the other was given as flag", path.display());
        }
        Ok(self.or(file))
    }

    fn or(self, file: Self) -> Self {
        macro_rules! pick {
            ($($field:ident)*) => { Self {
                kafka_property: if self.kafka_property.is_empty() { file.kafka_property } else { self.kafka_property },
                $($field: self.$field.or(file.$field),)*
            } };
        }
        pick!(data kafka log partitions replication http otlp_grpc otlp_http budgets prices allocation intake schema_registry smtp smtp_ca mail_from commit_interval_ms
              commit_rows
              dedup_hours dedup_ids event_bytes_max sql_memory_mib sql_timeout_s sql_rows_max
              pg pg_tls_cert pg_tls_key admin_key check_fail check_lag_ms log_format config)
    }
}

/// Which log holds the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogChoice {
    /// The embedded one, listening here.
    Embedded(SocketAddr),
    /// A Kafka cluster at these bootstrap servers.
    Kafka(String),
}

/// The settings, checked and complete.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data folder.
    pub data: PathBuf,
    /// The log.
    pub log: LogChoice,
    /// librdkafka properties.
    pub kafka_properties: BTreeMap<String, String>,
    /// Partitions of `usage.events` where it has to be created.
    pub partitions: i32,
    /// Replicas of topics that have to be created; -1 for the cluster's default.
    pub replication: i32,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Where OTLP over gRPC is taken; `None`: at its port, where that is free.
    pub otlp_grpc: Option<OtlpListen>,
    /// Where OTLP over HTTP is taken beside `http`; `None`: at its port, where that is free.
    pub otlp_http: Option<OtlpListen>,
    /// The budgets file.
    pub budgets: Option<PathBuf>,
    /// The price book file.
    pub prices: Option<PathBuf>,
    /// The file of shared cost.
    pub allocation: Option<PathBuf>,
    /// The intake file.
    pub intake: Option<PathBuf>,
    /// The schema registry.
    pub schema_registry: Option<Url>,
    /// The mail server.
    pub smtp: Option<String>,
    /// Its extra root certificate.
    pub smtp_ca: Option<PathBuf>,
    /// The sender of mails.
    pub mail_from: String,
    /// How often rows are committed.
    pub commit_interval: Duration,
    /// How many rows at most wait for a commit.
    pub commit_rows: usize,
    /// For how long ids are remembered.
    pub dedup_horizon: Duration,
    /// How many ids are remembered.
    pub dedup_ids: usize,
    /// The largest event.
    pub event_bytes_max: usize,
    /// Memory of one query.
    pub sql_memory_mib: u64,
    /// Time of one query.
    pub sql_timeout: Duration,
    /// Rows of one query's result.
    pub sql_rows_max: u64,
    /// Where PostgreSQL's protocol is served.
    pub pg: Option<SocketAddr>,
    /// Its certificates and their key.
    pub pg_tls: Option<(PathBuf, PathBuf)>,
    /// The admin key, where one was given.
    pub admin_key: Option<String>,
    /// What checks answer while balances are behind.
    pub check: CheckConfig,
}

impl Settings {
    /// Checks the options and fills in the defaults.
    pub fn from_options(options: ServeOptions) -> Result<Self> {
        let data = options.data.unwrap_or_else(|| PathBuf::from("data"));
        let embedded = options.kafka.is_none();
        let log = match options.kafka {
            Some(servers) if options.log.is_some() => {
                bail!("`kafka` ({servers}) and `log` exclude each other; use one log, embedded or Kafka")
            }
            Some(servers) => LogChoice::Kafka(servers),
            None => LogChoice::Embedded(options.log.map_or_else(|| DEFAULT_LOG.parse(), Ok)?),
        };
        let partitions = options.partitions.unwrap_or(if embedded { 8 } else { 64 });
        if !(1..=10_000).contains(&partitions) {
            bail!("--partitions {partitions}: use 1 to 10000");
        }
        let commit_interval = Duration::from_millis(options.commit_interval_ms.unwrap_or(2000));
        if commit_interval < Duration::from_millis(50) {
            bail!("--commit-interval-ms {}: use 50 or more", commit_interval.as_millis());
        }
        if options.admin_key.as_ref().is_some_and(|key| key.len() < 16) {
            bail!(
                "OUTLAY_ADMIN_KEY has fewer than 16 characters; use a longer one, or leave it out to have one generated"
            );
        }
        for (flag, path) in [
            ("--budgets", &options.budgets),
            ("--prices", &options.prices),
            ("--allocation", &options.allocation),
            ("--intake", &options.intake),
            ("--smtp-ca", &options.smtp_ca),
            ("--pg-tls-cert", &options.pg_tls_cert),
            ("--pg-tls-key", &options.pg_tls_key),
        ] {
            if let Some(path) = path {
                check_readable(flag, path)?;
            }
        }
        Ok(Self {
            data,
            log,
            kafka_properties: properties(&options.kafka_property)?,
            partitions,
            replication: options.replication.unwrap_or(-1),
            http: options.http.map_or_else(|| DEFAULT_HTTP.parse(), Ok)?,
            otlp_grpc: options.otlp_grpc,
            otlp_http: options.otlp_http,
            budgets: options.budgets,
            prices: options.prices,
            allocation: options.allocation,
            intake: options.intake,
            schema_registry: options.schema_registry.as_deref().map(registry).transpose()?,
            smtp: options.smtp,
            smtp_ca: options.smtp_ca,
            mail_from: options.mail_from.unwrap_or_else(|| "Outlay <outlay@localhost>".into()),
            commit_interval,
            commit_rows: options.commit_rows.unwrap_or(500_000).max(1),
            dedup_horizon: Duration::from_secs(3600 * u64::from(options.dedup_hours.unwrap_or(24).max(1))),
            dedup_ids: options.dedup_ids.unwrap_or(20_000_000).max(1),
            event_bytes_max: options.event_bytes_max.unwrap_or(256 * 1024),
            sql_memory_mib: options.sql_memory_mib.unwrap_or(1024),
            sql_timeout: Duration::from_secs(options.sql_timeout_s.unwrap_or(30).max(1)),
            sql_rows_max: options.sql_rows_max.unwrap_or(1_000_000).max(1),
            pg: options.pg,
            pg_tls: match (options.pg_tls_cert, options.pg_tls_key) {
                (Some(certificates), Some(key)) => Some((certificates, key)),
                (None, None) => None,
                _ => bail!("--pg-tls-cert and --pg-tls-key go together; give both"),
            },
            admin_key: options.admin_key,
            check: CheckConfig {
                fail: options.check_fail.unwrap_or_default(),
                lag_max: options.check_lag_ms.map_or(CheckConfig::default().lag_max, Duration::from_millis),
            },
        })
    }
}

fn check_readable(flag: &str, path: &Path) -> Result<()> {
    std::fs::File::open(path).with_context(|| format!("{flag} {}: cannot read it", path.display())).map(drop)
}

fn registry(text: &str) -> Result<Url> {
    // The text is not repeated: it may hold a password.
    let url = Url::parse(text).context("--schema-registry is no URL; write it like http://registry:8081")?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("--schema-registry has the scheme {:?}; write it like http://registry:8081", url.scheme());
    }
    Ok(url)
}

fn properties(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    pairs
        .iter()
        .map(|pair| {
            pair.split_once('=')
                .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
                .with_context(|| format!("--kafka-property {pair}: write it as KEY=VALUE"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_the_file_and_an_unknown_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outlay.yaml");
        std::fs::write(&path, "http: 127.0.0.1:1\npartitions: 3\nkafka-property: [a=b]\n").unwrap();
        let flags = ServeOptions { config: Some(path.clone()), partitions: Some(5), ..ServeOptions::default() };
        let settings = Settings::from_options(flags.clone().with_file().unwrap()).unwrap();
        assert_eq!((settings.partitions, settings.http.port()), (5, 1));
        assert_eq!(settings.kafka_properties["a"], "b");

        std::fs::write(&path, "htpp: 127.0.0.1:1\n").unwrap();
        let error = format!("{:#}", flags.with_file().unwrap_err());
        assert!(error.contains("htpp"), "{error}");
    }

    #[test]
    fn a_listener_of_otlp_has_an_address_or_is_off() {
        let options: ServeOptions = serde_saphyr::from_str("otlp-grpc: 127.0.0.1:0\notlp-http: off\n").unwrap();
        let settings = Settings::from_options(options).unwrap();
        assert_eq!(settings.otlp_grpc, Some(OtlpListen::At("127.0.0.1:0".parse().unwrap())));
        assert_eq!(settings.otlp_http, Some(OtlpListen::Off));
        assert!("4317".parse::<OtlpListen>().unwrap_err().contains("127.0.0.1:4317"));
    }

    #[test]
    fn a_schema_registry_is_at_a_url_of_http() {
        let at = |url: &str| {
            let options: ServeOptions = serde_saphyr::from_str(&format!("schema-registry: {url}\n")).unwrap();
            Settings::from_options(options).map(|settings| settings.schema_registry.unwrap().to_string())
        };
        assert_eq!(at("http://u:p@registry:8081").unwrap(), "http://u:p@registry:8081/");
        for wrong in ["registry", "registry:8081", "file:///etc/passwd", "http://"] {
            assert!(format!("{:#}", at(wrong).unwrap_err()).contains("http://registry:8081"), "{wrong}");
        }
    }

    #[test]
    fn both_logs_at_once_are_refused() {
        let options = ServeOptions {
            kafka: Some("k:9092".into()),
            log: Some("127.0.0.1:9092".parse().unwrap()),
            ..ServeOptions::default()
        };
        assert!(Settings::from_options(options).unwrap_err().to_string().contains("exclude each other"));
    }
}
