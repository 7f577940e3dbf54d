// The page: asks for the status each second, follows the decisions, and shows both.

import { Problem, ask, follow, forgetKey, getKey, keyFromAddress, setKey } from "./api.js";
import { loadChargeback, setUpChargeback } from "./chargeback.js";
import { byId, setText } from "./dom.js";
import { clock, compact, duration, full, latency } from "./format.js";
import { loadRequests } from "./requests.js";
import { setUpMails, showBlocked, showBudgets, showHealth, showMails, showRejections, showUnpriced } from "./lists.js";

const POLL_MS = 1000;
const CHARGEBACK_MS = 5000;
const REQUESTS_MS = 2000;
const SAMPLES = 120;

const rates = [];
const decisions = new Map();
let serverAheadMs = 0;
let lastAnswerMs = 0;
let stream = null;
/** Counts the times that a key was entered; what was started under an older one ends. */
let session = 0;

const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const serverNowMs = () => Date.now() + serverAheadMs;

function show(status) {
  serverAheadMs = Date.parse(status.now) - Date.now();
  lastAnswerMs = Date.now();
  const { totals, lag, lake, log } = status;
  const where = log.kind === "embedded" ? "embedded log" : "Kafka";
  const up = duration((Date.parse(status.now) - Date.parse(status.started_at)) / 1000);
  setText(byId("about"), `${status.version} · ${where} at ${log.address}, ${log.partitions} partitions · up ${up}`);
  rates.push(status.events_per_second);
  rates.splice(0, rates.length - SAMPLES);
  setText(byId("rate"), full(status.events_per_second));
  drawSpark();
  figure("accepted", totals.accepted);
  setText(byId("accepted-note"), `${full(totals.duplicate)} duplicates, ${full(totals.forwarded)} forwarded`);
  figure("rejected", totals.rejected);
  setText(byId("rejected-note"), `${full(totals.too_late)} too late`);
  setText(byId("enforcement"), latency(lag.enforcement_us));
  setText(byId("consumer"), lag.consumer_events ? `${full(lag.consumer_events)} events behind` : "nothing waits in the log");
  setText(byId("lake"), lake.version === undefined ? "empty" : `version ${full(lake.version)}`);
  const committed = lake.committed_at ? `, ${clock(lake.committed_at)}` : "";
  setText(byId("lake-note"), `${compact(lake.rows)} rows + ${full(lake.tail_rows)} in memory${committed}`);
  byId("lake-note").title = `${full(lake.rows)} rows at ${lake.location}`;
  showBudgets(status);
  showMails(status);
  showRejections(status);
  showUnpriced(status);
  showHealth(status);
}

function figure(id, count) {
  setText(byId(id), count < 1e6 ? full(count) : compact(count));
  byId(id).title = full(count);
}

function drawSpark() {
  const top = Math.max(...rates, 1);
  const step = 240 / (SAMPLES - 1);
  const start = 240 - (rates.length - 1) * step;
  const points = rates.map((rate, at) => `${(start + at * step).toFixed(1)},${(46 - (rate / top) * 40).toFixed(1)}`);
  const [area, line] = byId("spark").children;
  line.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
  area.setAttribute("d", points.length > 1 ? `M${start.toFixed(1)},48L${points.join("L")}L240,48Z` : "");
}

async function poll(mine) {
  while (mine === session) {
    try {
      const status = await (await ask("/v1/status")).json();
      if (mine !== session) return;
      show(status);
      byId("connection").hidden = true;
    } catch (error) {
      if (mine !== session) return;
      if (error instanceof Problem && error.status === 401) return logOut(error.message);
      const since = lastAnswerMs ? ` What is shown is ${duration((Date.now() - lastAnswerMs) / 1000)} old.` : "";
      setText(byId("connection"), `The server does not answer (${error.message}); trying again.${since}`);
      byId("connection").hidden = false;
    }
    await wait(document.hidden ? 5 * POLL_MS : POLL_MS);
  }
}

async function followDecisions(mine) {
  while (mine === session) {
    stream = new AbortController();
    try {
      await follow("/v1/decisions/stream", stream.signal, (event, data) => {
        if (event === "reset") decisions.clear();
        if (event === "decision") decisions.set(JSON.stringify([data.budget, data.scope]), data);
        if (event === "ready") setText(byId("stream"), "live");
        showBlocked(decisions, serverNowMs());
      });
    } catch (error) {
      if (error instanceof Problem && error.status === 401) return;
    }
    if (mine !== session) return;
    setText(byId("stream"), "connecting again…");
    await wait(2 * POLL_MS);
  }
}

async function refreshChargeback(mine) {
  while (mine === session) {
    if (!document.hidden) await loadChargeback();
    await wait(CHARGEBACK_MS);
  }
}

async function refreshRequests(mine) {
  while (mine === session) {
    if (!document.hidden) await loadRequests();
    await wait(REQUESTS_MS);
  }
}

function logIn() {
  session += 1;
  stream?.abort();
  byId("login").hidden = true;
  byId("main").hidden = false;
  byId("forget").hidden = false;
  poll(session);
  followDecisions(session);
  refreshChargeback(session);
  refreshRequests(session);
}

function logOut(message) {
  session += 1;
  stream?.abort();
  forgetKey();
  decisions.clear();
  byId("main").hidden = true;
  byId("forget").hidden = true;
  byId("health").hidden = true;
  byId("login").hidden = false;
  setText(byId("about"), "");
  setText(byId("login-error"), message ?? "");
  byId("key").focus();
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId("key").value.trim());
  byId("key").value = "";
  logIn();
});
byId("forget").addEventListener("click", () => logOut());
byId("health").addEventListener("click", () => {
  byId("health-card").scrollIntoView({ block: "center" });
  byId("health-card").focus({ preventScroll: true });
});
addEventListener("hashchange", () => {
  if (keyFromAddress()) logIn();
});
setInterval(() => showBlocked(decisions, serverNowMs()), POLL_MS);
setUpChargeback();
setUpMails();
keyFromAddress();
if (getKey()) logIn();
else logOut();
