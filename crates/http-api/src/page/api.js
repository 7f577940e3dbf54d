// Asking the server, with the key that the user gave. The key lives in this tab's session storage and nowhere else.

const STORED = "outlay-key";

/** Takes a key from `#key=…` and removes it from the address bar and the history. */
export function keyFromAddress() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key === null) return false;
  setKey(key);
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

export const getKey = () => sessionStorage.getItem(STORED) ?? "";
export const setKey = (key) => sessionStorage.setItem(STORED, key);
export const forgetKey = () => sessionStorage.removeItem(STORED);

/** What the server answered instead of data. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.title ?? `the server answered ${status}`);
    this.status = status;
  }
}

/** Fetches a path with the key; throws a Problem where the answer is an error. */
export async function ask(path, { timeoutMs = 10000, signal, headers } = {}) {
  const signals = [signal, timeoutMs ? AbortSignal.timeout(timeoutMs) : null].filter(Boolean);
  const response = await fetch(path, {
    headers: { ...headers, authorization: `Bearer ${getKey()}` },
    signal: signals.length ? AbortSignal.any(signals) : undefined,
    cache: "no-store",
    credentials: "omit",
  });
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  return response;
}

/** Follows server-sent events until the stream ends; EventSource cannot send a key. */
export async function follow(path, signal, onEvent) {
  const response = await ask(path, { timeoutMs: 0, signal, headers: { accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const fields = { event: "message", data: "" };
      for (const line of event.split("\n")) {
        const at = line.indexOf(":");
        if (at > 0) fields[line.slice(0, at)] = line.slice(at + 1).replace(/^ /, "");
      }
      if (fields.data) onEvent(fields.event, JSON.parse(fields.data));
    }
  }
}
