//! A model that answers after 10 ms and reports what that used, and two gateways before it: a real nginx that asks `/v1/check`, and one that
//! has a follower of the control topic in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::common::{PATIENCE, Server, free_port, wait_for};
use crate::follow::{Followed, follow};
use crate::{NAMESPACE, TOKENS};

/// How long the model takes.
const ANSWER: Duration = Duration::from_millis(10);
/// The header that says who asks. A real gateway takes that from what authenticated the caller.
pub const AGENT: &str = "x-agent";

/// One answer of the model, when it was reported.
pub type Report = (Instant, DateTime<Utc>);

/// The model. What a log shipper or a gateway's own reporting does in production it does itself: publish an event for each answer, at once.
pub struct Model {
    address: String,
    answers: Arc<Answers>,
    pub runtime: Runtime,
}

struct Answers {
    producer: FutureProducer,
    next: AtomicU64,
    reports: Mutex<BTreeMap<String, Vec<Report>>>,
}

impl Answers {
    async fn answer(&self, agent: &str) {
        tokio::time::sleep(ANSWER).await;
        let now = Utc::now();
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let event = json!({
            "id": id, "source": "runaway", "time": now.to_rfc3339_opts(SecondsFormat::Micros, true), "namespace": NAMESPACE,
            "agent": agent, "provider": "openai", "model": "gpt-5.1", "tokens": {"input": TOKENS - 100, "output": 100},
        });
        self.reports.lock().entry(agent.to_owned()).or_default().push((Instant::now(), now));
        let (key, event) = (format!("{NAMESPACE}/"), event.to_string());
        // Whether all of them arrive is seen by counting them.
        let queued = self.producer.send_result(FutureRecord::to("usage.events").key(&key).payload(&event));
        assert!(queued.is_ok(), "the producer takes it");
    }
}

fn agent_of(headers: &HeaderMap) -> String {
    headers[AGENT].to_str().unwrap().to_owned()
}

async fn model(State(answers): State<Arc<Answers>>, headers: HeaderMap) -> StatusCode {
    answers.answer(&agent_of(&headers)).await;
    StatusCode::OK
}

async fn gateway((answers, followed): (Arc<Answers>, Arc<Followed>), headers: HeaderMap) -> StatusCode {
    let agent = agent_of(&headers);
    let dimensions = [("namespace", NAMESPACE), ("agent", agent.as_str())];
    let dimensions = BTreeMap::from(dimensions.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let status = {
        let decisions = followed.decisions.read().unwrap();
        decisions.check(&dimensions, Utc::now()).map(|block| block.http_status)
    };
    if let Some(status) = status {
        return StatusCode::from_u16(status).unwrap();
    }
    answers.answer(&agent).await;
    StatusCode::OK
}

impl Model {
    /// Starts it; it reports to this log.
    pub fn start(log: &str) -> Self {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", log).set("enable.idempotence", "true").set("linger.ms", "0");
        let producer = client.set("sticky.partitioning.linger.ms", "0").create().unwrap();
        let answers = Arc::new(Answers { producer, next: AtomicU64::new(0), reports: Mutex::default() });
        let runtime = Runtime::new().unwrap();
        let router = Router::new().route("/", post(model)).with_state(Arc::clone(&answers));
        let address = serve(&runtime, router);
        Self { address, answers, runtime }
    }

    /// When what an agent had of it was reported, in order.
    pub fn reports(&self, agent: &str) -> Vec<Report> {
        let mut reports = self.answers.reports.lock().get(agent).cloned().unwrap_or_default();
        reports.sort();
        reports
    }
}

fn serve(runtime: &Runtime, router: Router) -> String {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(async move { axum::serve(listener, router).await });
    address
}

/// What stands before the model.
pub struct Gateway {
    /// Where it takes requests.
    pub url: String,
    /// Keeps its connections over all loops.
    pub client: reqwest::Client,
    nginx: Option<Child>,
}

impl Gateway {
    /// A real nginx. It keeps its connections, as it would in production.
    pub fn nginx(folder: &Path, server: &Server, model: &Model) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind}; "));
        let (model, outlay, key) = (&model.address, server.url.trim_start_matches("http://"), &server.key);
        let config = format!(
            r#"pid nginx.pid; error_log stderr; daemon off; master_process off;
events {{ }}
http {{
  access_log off; {}
  proxy_http_version 1.1; proxy_set_header Connection "";
  upstream model {{ server {model}; keepalive 64; }}
  upstream outlay {{ server {outlay}; keepalive 64; }}
  server {{
    listen {address};
    location / {{ auth_request /may-spend; proxy_pass http://model; }}
    location = /may-spend {{
      internal; proxy_pass http://outlay/v1/check;
      proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer {key}";
      proxy_set_header X-Outlay-Namespace {NAMESPACE}; proxy_set_header X-Outlay-Agent $http_x_agent;
    }}
  }}
}}
"#,
            temporary.concat()
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(folder).arg("-c").arg(&file).args(["-e", "stderr"]).stdin(Stdio::null());
        let nginx = nginx.spawn().unwrap_or_else(|error| panic!("nginx: {error}; `./dev test` installs it"));
        let mut gateway = Self::at(&address, Some(nginx));
        wait_for("nginx", || {
            let ended = gateway.nginx.as_mut().and_then(|nginx| nginx.try_wait().unwrap());
            assert!(ended.is_none(), "nginx ended with {ended:?}");
            std::net::TcpStream::connect(&address).ok()
        });
        gateway
    }

    /// One that follows the control topic, by the example in Rust.
    pub fn following(log: &str, model: &Model) -> Self {
        let followed = Arc::new(Followed::default());
        let (thread, brokers) = (Arc::clone(&followed), log.to_owned());
        // Ends with the process.
        std::thread::spawn(move || follow(&brokers, &thread));
        wait_for("the end of the control topic", || followed.ready.load(Ordering::Acquire).then_some(()));
        let parts = (Arc::clone(&model.answers), followed);
        let router = Router::new().route("/", post(move |headers| gateway(parts.clone(), headers)));
        Self::at(&serve(&model.runtime, router), None)
    }

    fn at(address: &str, nginx: Option<Child>) -> Self {
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { url: format!("http://{address}/"), client, nginx }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(nginx) = &mut self.nginx {
            let _gone = nginx.kill();
            let _reaped = nginx.wait();
        }
    }
}
