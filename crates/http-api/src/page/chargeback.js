// The chargeback table: the report's rows, the dearest first, and totals that are exact to the last digit.

import { ask, getKey } from "./api.js";
import { amountNode, byId, el, save, setChildren, setText } from "./dom.js";
import { compact, exact, full, money, parseDecimal } from "./format.js";

const ROWS_MAX = 200;
const COUNTS = [["requests", "Requests"], ["total_tokens", "Tokens"], ["tool_calls", "Tool calls"]];
let pending = false;

function path(format) {
  const query = new URLSearchParams({ period: byId("period").value, group_by: byId("group").value, format });
  return `/v1/reports/chargeback?${query}`;
}

/** Sets the month and what happens on a change. */
export function setUpChargeback() {
  byId("period").value = new Date().toISOString().slice(0, 7);
  for (const id of ["period", "group"]) byId(id).addEventListener("change", () => loadChargeback());
  byId("chargeback-form").addEventListener("submit", (event) => event.preventDefault());
  byId("csv").addEventListener("click", async () => {
    try {
      const response = await ask(path("csv"), { timeoutMs: 60000 });
      save(await response.blob(), `chargeback-${byId("period").value}.csv`);
    } catch (error) {
      setText(byId("chargeback-error"), error.message);
    }
  });
}

/** Asks for the report and shows it; the answer of a question that was changed meanwhile is dropped. */
export async function loadChargeback() {
  if (pending || !getKey() || !byId("period").value) return;
  pending = true;
  const asked = path("json");
  try {
    const rows = await (await ask(asked, { timeoutMs: 60000 })).json();
    if (asked === path("json")) show(rows, byId("group").value.split(","));
    setText(byId("chargeback-error"), "");
  } catch (error) {
    setText(byId("chargeback-error"), error.message);
  } finally {
    pending = false;
    if (asked !== path("json")) loadChargeback();
  }
}

function show(rows, dimensions) {
  const counts = COUNTS.filter(([name]) => rows.some((row) => row[name] !== undefined && String(row[name]) !== "0"));
  const priced = rows.map((row) => ({ row, cost: parseDecimal(row.cost) }));
  const order = (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : a > b ? -1 : 1);
  priced.sort((a, b) => order(a.cost, b.cost));

  const header = el("tr");
  for (const name of dimensions) header.append(heading(name.replaceAll("_", " "), ""));
  for (const [, label] of counts) header.append(heading(label, "right count-column"));
  header.append(heading("Cost", "right"));

  const table = byId("chargeback");
  table.hidden = !rows.length;
  byId("chargeback-empty").hidden = rows.length > 0;
  setChildren(table.tHead, header);
  setChildren(table.tBodies[0], ...priced.slice(0, ROWS_MAX).map((item) => line(item, dimensions, counts)));
  setChildren(table.tFoot, totals(priced, dimensions, counts));
}

function heading(text, className) {
  const node = el("th", className, text.charAt(0).toUpperCase() + text.slice(1));
  node.scope = "col";
  return node;
}

function line({ row, cost }, dimensions, counts) {
  const node = el("tr");
  for (const name of dimensions) node.append(el("td", row[name] ? "" : "note", row[name] || "not named"));
  for (const [name] of counts) node.append(el("td", "right count-column", countNode(BigInt(row[name] ?? 0))));
  node.append(el("td", "right", cost === null ? el("span", "tag warn", "no price") : costNode(cost, row.currency)));
  return node;
}

const countNode = (count) => amountNode({ short: count < 1000000n ? full(count) : compact(count), long: full(count) });
const costNode = (cost, currency) => amountNode({ short: money(cost, currency), long: `${exact(cost)} ${currency ?? ""}`.trim() });

function totals(priced, dimensions, counts) {
  const left = priced.length - ROWS_MAX;
  const label = el("td", "", left > 0 ? `Total of ${full(priced.length)} rows, of which ${full(left)} are not shown` : "Total");
  label.colSpan = dimensions.length;
  const node = el("tr", "", label);
  for (const [name] of counts) {
    node.append(el("td", "right count-column", countNode(priced.reduce((sum, { row }) => sum + BigInt(row[name] ?? 0), 0n))));
  }
  const sums = new Map();
  for (const { row, cost } of priced) {
    if (cost !== null) sums.set(row.currency, (sums.get(row.currency) ?? 0n) + cost);
  }
  const cell = el("td", "right");
  for (const [currency, sum] of sums) {
    cell.append(el("div", "", money(sum, currency), el("span", "exact", `${exact(sum)} ${currency ?? ""}`.trim())));
  }
  node.append(cell);
  return node;
}
