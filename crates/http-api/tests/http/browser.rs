//! The page in a real Chromium, spoken to over its debugging pipe.
//!
//! Chromium is found in `PATH` or named by `CHROMIUM`. Where there is none the test fails and says what to install.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use usage_types::{DecisionState, Pico, ReasonCode};

use crate::client::{DEADLINE, KEY, start};
use crate::fake::{REPORT, blocked};

struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    last_id: u64,
    /// Console errors, exceptions and violations of the policy.
    complaints: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    async fn start(chromium: &str) -> Self {
        let profile = TempDir::new().unwrap();
        let mut command = Command::new("sh");
        // The pipe is at file descriptors 3 and 4.
        command.args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#, chromium]);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
        ]);
        command.args(["--disable-component-update", "--disable-sync", "--remote-debugging-pipe", "about:blank"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let complaints = Vec::new();
        let mut browser = Self { child, input, output, session: None, last_id: 0, complaints, _profile: profile };
        // The page that it begins with may not be there yet.
        let end = tokio::time::Instant::now() + DEADLINE;
        let page = loop {
            let targets = browser.call("Target.getTargets", json!({})).await;
            let page = targets["targetInfos"].as_array().unwrap().iter().find(|target| target["type"] == "page");
            if let Some(page) = page {
                break page["targetId"].clone();
            }
            assert!(tokio::time::Instant::now() < end, "the browser has no page");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        let attach = json!({"targetId": page, "flatten": true});
        let session = browser.call("Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned();
        browser.session = Some(session);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({})).await;
        }
        browser
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn try_call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).await.unwrap();
        loop {
            let mut bytes = Vec::new();
            let read = tokio::time::timeout(DEADLINE, self.output.read_until(0, &mut bytes)).await;
            assert!(read.expect("an answer of the browser in time").unwrap() > 0, "the browser ended");
            let message: Value = serde_json::from_slice(bytes.strip_suffix(b"\0").unwrap()).unwrap();
            if message["id"] == self.last_id {
                return message.get("error").map_or_else(|| Ok(message["result"].clone()), |error| Err(error.clone()));
            }
            let is_complaint = match message["method"].as_str() {
                Some("Runtime.exceptionThrown" | "Page.javascriptDialogOpening") => true,
                Some("Log.entryAdded") => message["params"]["entry"]["level"] == "error",
                _ => false,
            };
            if is_complaint {
                self.complaints.push(message["params"].clone());
            }
        }
    }

    async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url})).await;
    }

    /// The value of a script in the page. Asked again where the page was just left for another one.
    async fn eval(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let end = tokio::time::Instant::now() + DEADLINE;
        let result = loop {
            match self.try_call("Runtime.evaluate", params.clone()).await {
                Ok(result) => break result,
                Err(error) => assert!(tokio::time::Instant::now() < end, "{script}: {error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert!(result["exceptionDetails"].is_null(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until a script says true.
    async fn wait_for(&mut self, script: &str) {
        let end = tokio::time::Instant::now() + DEADLINE;
        while self.eval(script).await != true {
            assert!(tokio::time::Instant::now() < end, "not within {DEADLINE:?}: {script}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn text(&mut self, selector: &str) -> String {
        let script = format!("document.querySelector({}).textContent", Value::from(selector));
        self.eval(&script).await.as_str().unwrap().to_owned()
    }
}

fn chromium() -> Option<String> {
    let named = std::env::var("CHROMIUM").ok();
    let path = std::env::var("PATH").unwrap_or_default();
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .flat_map(|name| path.split(':').map(move |folder| format!("{folder}/{name}")))
        .find(|file| std::path::Path::new(file).exists());
    named.or(found)
}

#[tokio::test]
async fn the_page_shows_what_the_engine_says_and_runs_nothing_that_an_event_names() {
    let chromium = chromium()
        .expect("there is no Chromium in PATH: install it (Debian: apt-get install chromium), or name it in CHROMIUM");
    let server = start().await;
    let base = format!("http://{}/", server.addr);
    let mut page = Browser::start(&chromium).await;

    // Without a key there is nothing but the question for one; a wrong one is told.
    page.open(&base).await;
    page.wait_for("document.getElementById('login')?.hidden === false").await;
    page.eval("document.getElementById('key').value = 'wrong'; document.getElementById('login-form').requestSubmit()")
        .await;
    page.wait_for("document.getElementById('login-error').textContent.includes('the key is wrong')").await;
    // The browser itself reports each answer of 401 as an error.
    page.complaints.clear();

    // With the key in the address everything is shown, and the key is gone from the address.
    page.open(&format!("{base}#key={KEY}")).await;
    page.wait_for("document.querySelectorAll('#budgets > li').length === 6").await;
    assert_eq!(page.eval("location.href").await, base.as_str());
    page.wait_for("document.querySelectorAll('#chargeback tbody tr').length === 7").await;

    // The total is exact: summed here from the same texts.
    let costs = REPORT.iter().filter_map(|line| line.5);
    let total = costs.fold(0, |sum, cost| sum + cost.parse::<Pico>().unwrap().0);
    let shown = page.text("#chargeback tfoot .exact").await.replace(',', "");
    assert_eq!(shown, format!("{} USD", Pico(total)));

    // Names are text.
    assert!(page.text("#chargeback tbody").await.contains("<img src=x onerror=alert(1)>"));
    assert_eq!(page.eval("document.querySelectorAll('main img, main script').length").await, 0);
    assert!(
        page.text("#chargeback tbody").await.contains("U+202E"),
        "a character that turns its neighbours is shown as such"
    );

    // A block is shown with its reason and its end, and goes when it is lifted, without polling.
    page.wait_for("document.querySelectorAll('#blocked > li').length === 1").await;
    let block = page.text("#blocked").await;
    for part in ["support", "NAMESPACE_QUOTA_EXCEEDED", "HTTP 403", "resets in", "1,000,450 of 1,000,000"] {
        assert!(block.contains(part), "{part} is not in {block}");
    }
    let lifted = blocked("support", 18);
    let state = DecisionState::Allowed;
    server.engine.decide(usage_types::Decision {
        state,
        reason_code: ReasonCode::WithinQuota,
        http_status: 200,
        ..lifted
    });
    page.wait_for("!document.getElementById('blocked-empty').hidden").await;

    // A mail is shown decoded.
    page.eval("document.querySelector('#mails button').click()").await;
    page.wait_for("document.getElementById('mail-text').textContent.includes('“support” has used 800,123')").await;
    assert!(page.text("#mail-subject").await.contains("80 %"));

    // It fits a telephone.
    let narrow = json!({"width": 420, "height": 900, "deviceScaleFactor": 1, "mobile": true});
    page.call("Emulation.setDeviceMetricsOverride", narrow).await;
    page.wait_for("innerWidth === 420 && document.documentElement.scrollWidth <= 420").await;

    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
    page.session = None;
    page.call("Browser.close", json!({})).await;
    let ended = tokio::time::timeout(DEADLINE, page.child.wait()).await;
    assert!(ended.is_ok(), "the browser does not end");
}
