// The lists of the page: balances, blocks, mails, rejected events, health.

import { ask } from "./api.js";
import { amountNode, byId, el, save, scopeNode, setChildren, setText, syncList } from "./dom.js";
import { amount, clock, compact, duration, full } from "./format.js";
import { readMail } from "./mail.js";

const identity = (budget, scope) => JSON.stringify([budget, Object.entries(scope)]);
const row = () => el("li", "row");

/** How full, in words: colour alone says nothing to who cannot see it. */
function fullness({ used_ppm: ppm, state, mode }) {
  if (state === "blocked") return ["bad", "blocked"];
  if (ppm >= 1000000) return ["warn", mode === "hard" ? "over" : mode === "shadow" ? "would block" : "over, soft"];
  if (ppm >= 800000) return ["warn", "above 80 %"];
  return ["ok", ""];
}

/** Percent, rounded down, so that 100 % means reached. */
const percent = (ppm) => `${ppm < 100000 ? (Math.floor(ppm / 1000) / 10).toFixed(1) : full(Math.floor(ppm / 10000))} %`;

export function showBudgets(status) {
  const rows = status.balances.filter((balance) => balance.limit !== undefined);
  byId("budgets-empty").hidden = rows.length > 0;
  setText(byId("budgets-note"), `${full(status.balances_total)} live balances`);
  const key = (balance) => identity(balance.budget, balance.scope) + balance.measure;
  syncList(byId("budgets"), rows, key, makeBudget, updateBudget);
}

function makeBudget() {
  const bar = el("div", "bar", el("div", "fill"));
  bar.setAttribute("role", "meter");
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  return el("li", "row", el("div", "line"), bar, el("div", "line"));
}

function updateBudget(node, balance) {
  const [top, bar, bottom] = node.children;
  const ppm = balance.used_ppm ?? 0;
  const [kind, word] = fullness(balance);
  const amountOf = (text) => amountNode(amount(text, balance.measure, balance.currency));
  const unit = balance.measure === "cost" || balance.measure === "compute_seconds" ? "" : ` ${balance.measure.replaceAll("_", " ")}`;
  node.className = `row ${kind}`;
  setChildren(top, scopeNode(balance.scope), el("span", "num", amountOf(balance.used), " of ", amountOf(balance.limit), unit));
  setChildren(bottom, el("span", "detail", `${balance.budget} · per ${balance.window_name ?? balance.every}`),
    el("span", "num", word ? el("span", `tag ${kind}`, word) : null, word ? " " : null, percent(ppm)));
  bar.firstElementChild.style.width = `${Math.min(100, ppm / 10000)}%`;
  bar.setAttribute("aria-valuenow", String(Math.min(100, Math.floor(ppm / 10000))));
  bar.setAttribute("aria-valuetext", `${percent(ppm)} of ${balance.budget} used`);
}

/** Shows the blocks in force; `nowMs` is the server's time, so that a wrong clock here does not spoil the countdown. */
export function showBlocked(decisions, nowMs) {
  const blocked = [...decisions.values()]
    .filter((decision) => decision.state === "blocked" && Date.parse(decision.expires_at) > nowMs)
    .sort((a, b) => (a.decided_at < b.decided_at ? 1 : -1));
  byId("blocked-empty").hidden = blocked.length > 0;
  syncList(byId("blocked"), blocked, (decision) => identity(decision.budget, decision.scope), row, (node, decision) => {
    const amountOf = (text) => amountNode(amount(text, decision.measure, decision.currency));
    const left = duration((Date.parse(decision.expires_at) - nowMs) / 1000);
    const reset = el("span", "num detail", `resets in ${left}`);
    reset.title = decision.expires_at;
    setChildren(node,
      el("div", "line", scopeNode(decision.scope), el("span", "tag bad", `HTTP ${decision.http_status}`)),
      el("div", "line", el("code", "detail", decision.reason_code), reset),
      el("div", "detail", `${decision.budget}: `, amountOf(decision.used), " of ", amountOf(decision.limit),
        decision.measure === "cost" ? "" : ` ${decision.measure.replaceAll("_", " ")}`));
  });
}

const MAIL_STATES = { queued: ["warn", "waiting"], sent: ["ok", "sent"], written: ["ok", "written"], failed: ["bad", "refused"] };

export function showMails(status) {
  byId("mails-empty").hidden = status.mails.length > 0;
  setText(byId("mails-note"), status.alerts.length ? `last alert ${clock(status.alerts[0].raised_at)}` : "");
  const make = (mail) => {
    const open = el("button", "open");
    open.type = "button";
    open.addEventListener("click", () => openMail(mail.id));
    return el("li", "mail", open);
  };
  syncList(byId("mails"), status.mails, (mail) => mail.id, make, (node, mail) => {
    const [kind, word] = MAIL_STATES[mail.state] ?? ["plain-tag", mail.state];
    setChildren(node.firstElementChild,
      el("div", "line tight", el("span", "name", mail.subject), el("span", `tag ${kind}`, word)),
      el("div", "line", el("span", "detail", `to ${mail.to.join(", ")}`), el("span", "detail num", clock(mail.at))),
      mail.error ? el("div", "error detail", mail.error) : null);
  });
}

let shownMail = null;

async function openMail(id) {
  const fill = (subject, meta, text) => {
    setText(byId("mail-subject"), subject);
    setText(byId("mail-meta"), meta);
    setText(byId("mail-text"), text);
  };
  shownMail = null;
  fill("Mail", "", "Loading…");
  byId("mail").showModal();
  try {
    shownMail = await (await ask(`/v1/mails/${encodeURIComponent(id)}`)).arrayBuffer();
    const mail = readMail(shownMail);
    fill(mail.subject, `${mail.from} to ${mail.to}, ${mail.date}`, mail.text ?? "This mail has no plain text; download it to read it.");
  } catch (error) {
    fill("The mail cannot be shown", "", error.message);
  }
}

export function setUpMails() {
  byId("mail-close").addEventListener("click", () => byId("mail").close());
  byId("mail-save").addEventListener("click", () => {
    if (shownMail) save(new Blob([shownMail], { type: "message/rfc822" }), "mail.eml");
  });
}

export function showRejections(status) {
  byId("rejections-empty").hidden = status.rejections.length > 0;
  const key = (rejection) => `${rejection.partition}/${rejection.offset}`;
  syncList(byId("rejections"), status.rejections, key, row, (node, rejection) => {
    setChildren(node,
      el("div", "line", el("span", "", el("code", "name", rejection.code), rejection.field ? " in " : null,
        rejection.field ? el("code", "", rejection.field) : null), el("span", "detail num", clock(rejection.at))),
      el("div", "detail", rejection.message),
      el("div", "note", `partition ${rejection.partition}, offset ${full(rejection.offset)}`));
  });
}

export function showUnpriced(status) {
  const banner = byId("unpriced");
  banner.hidden = !status.unpriced.length && !status.totals.unpriced;
  const names = status.unpriced.slice(0, 5).map(({ provider, model, events, tokens }) =>
    `${provider ? provider + " / " : ""}${model} (${full(events)} events, ${compact(tokens)} tokens)`);
  const more = status.unpriced.length > 5 ? ` and ${full(status.unpriced.length - 5)} more` : "";
  const what = names.length ? `: ${names.join(", ")}${more}` : "";
  setText(banner, `${full(status.totals.unpriced)} events have no price${what}. Their tokens count, their cost is unknown; add the model to the price book.`);
}

export function showHealth(status) {
  syncList(byId("components"), status.health, (part) => part.component, row, (node, part) => {
    setChildren(node,
      el("div", "line", el("span", "name", part.component), el("span", `tag ${part.ok ? "ok" : "bad"}`, part.ok ? "works" : "trouble")),
      el("div", "detail", part.detail));
  });
  const troubled = status.health.filter((part) => !part.ok).length;
  const pill = byId("health");
  pill.hidden = false;
  pill.className = `pill ${troubled ? "warn" : "ok"}`;
  setText(pill, troubled ? `${troubled} of ${status.health.length} parts in trouble` : "All parts work");
}
