// The requests for higher limits that wait for an answer.

import { ask } from "./api.js";
import { amountNode, byId, el, scopeNode, setChildren, setText, syncList } from "./dom.js";
import { amount, clock, full } from "./format.js";

/** The limits as in a budgets file: `2000000 tokens`, `40.00 USD`. */
const wished = (limits) => limits.map((limit) => {
  const [measure, value] = Object.entries(limit).find(([name]) => name !== "overage");
  return measure === "cost" ? value : `${typeof value === "number" ? full(value) : value} ${measure.replaceAll("_", " ")}`;
}).join(", ");

/** Asks which requests are pending, and shows them. What cannot be told now stays as it was. */
export async function loadRequests() {
  let requests;
  try {
    requests = await (await ask("/v1/increase-requests?state=pending")).json();
  } catch {
    return;
  }
  byId("requests-card").hidden = requests.length === 0;
  setText(byId("requests-note"), `${full(requests.length)} pending`);
  syncList(byId("requests"), requests, (request) => request.id, () => el("li", "row"), (node, request) => {
    const present = (request.present ?? []).map(({ measure, currency, used, limit }) =>
      el("span", "detail", "now ", amountNode(amount(used, measure, currency)), " of ", amountNode(amount(limit, measure, currency))));
    setChildren(node,
      el("div", "line", scopeNode(request.scope), el("span", "tag warn", `${wished(request.limits)}`)),
      el("div", "line", el("span", "detail", `${request.budget} · ${request.until ? `until ${clock(request.until)}` : "to the end of its window"}`), ...present),
      el("div", "detail", `${request.asked.actor ?? "somebody"}, ${clock(request.asked.at)}: ${request.asked.reason ?? ""}`),
      el("code", "detail", `outlay budgets approve ${request.id}`));
  });
}
