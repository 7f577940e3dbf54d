// How amounts and times are written. Amounts are decimal texts; they are added and rounded as integers, never as floats.

const DIGITS = 12n;
const ONE = 10n ** DIGITS;
const grouped = new Intl.NumberFormat("en");
const compactFormat = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A decimal text as an integer of 10^-12 units; null where it is none. */
export function parseDecimal(text) {
  const parts = /^(-?)(\d+)(?:\.(\d{1,12}))?$/.exec(String(text ?? ""));
  if (!parts) return null;
  const value = BigInt(parts[2]) * ONE + BigInt((parts[3] ?? "").padEnd(Number(DIGITS), "0"));
  return parts[1] ? -value : value;
}

/** The integer of 10^-12 units as the same decimal text, with separated thousands. */
export function exact(value) {
  const size = value < 0n ? -value : value;
  const fraction = (size % ONE).toString().padStart(Number(DIGITS), "0").replace(/0+$/, "");
  return (value < 0n ? "-" : "") + grouped.format(size / ONE) + (fraction ? "." + fraction : "");
}

/** Rounded half away from zero to so many digits after the point. */
function rounded(value, digits) {
  const step = 10n ** (DIGITS - BigInt(digits));
  const size = value < 0n ? -value : value;
  const units = (size + step / 2n) / step;
  const scale = 10n ** BigInt(digits);
  const sign = value < 0n && units > 0n ? "-" : "";
  return `${sign}${grouped.format(units / scale)}.${(units % scale).toString().padStart(digits, "0")}`;
}

/** Money to read: cents from one unit up, four digits below, so that small sums do not look free. */
export function money(value, currency) {
  const size = value < 0n ? -value : value;
  let text = rounded(value, size >= ONE || size === 0n ? 2 : 4);
  if (size > 0n && size < ONE / 20000n) text = "< 0.0001";
  return currency === "USD" ? text.replace(/^(-?)(< )?/, "$1$2$") : `${text} ${currency ?? ""}`.trim();
}

/** A count to read, like 1.2M. */
export function compact(count) {
  return compactFormat.format(count);
}

/** A count in full, like 1,204,332. */
export function full(count) {
  return grouped.format(count);
}

/** An amount of a measure: what to show and the exact text. */
export function amount(text, measure, currency) {
  const value = parseDecimal(text);
  if (value === null) return { short: String(text ?? "–"), long: String(text ?? "") };
  const long = exact(value);
  if (measure === "cost") return { short: money(value, currency), long: `${long} ${currency ?? ""}`.trim() };
  if (measure === "compute_seconds") return { short: duration(Number(value / ONE)), long: `${long} s` };
  const count = value / ONE;
  return { short: count < 10000000n ? full(count) : compact(count), long: `${long} ${measure.replaceAll("_", " ")}` };
}

/** Seconds as a length of time, like 3 h 12 min. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  if (minutes) return `${minutes} min ${whole % 60} s`;
  return `${whole} s`;
}

/** Microseconds as a latency. */
export function latency(us) {
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms`;
  if (us < 6e7) return `${(us / 1e6).toFixed(1)} s`;
  return duration(us / 1e6);
}

/** A time in the reader's own zone. */
export function clock(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return String(text);
  const today = new Date().toDateString() === time.toDateString();
  const options = today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat("en-GB", options).format(time);
}
