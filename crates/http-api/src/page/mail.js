// Reading a mail far enough to show its text: headers, the parts of a multipart, base64 and quoted-printable.

const utf8 = (bytes) => new TextDecoder().decode(bytes);
const bytesOf = (binary) => Uint8Array.from(binary, (c) => c.charCodeAt(0) & 255);

/** The subject, who it is from and for, and the plain text of a mail. */
export function readMail(buffer) {
  // Latin-1 keeps each byte as one character until the encoding of its part is known.
  const root = part(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(""));
  const header = (name) => decodeWords(root.headers.get(name) ?? "");
  return { subject: header("subject"), from: header("from"), to: header("to"), date: header("date"), text: plainText(root)?.replaceAll("\r\n", "\n") ?? null };
}

function part(raw) {
  const text = raw.replaceAll("\r\n", "\n");
  const end = text.indexOf("\n\n");
  const head = end < 0 ? text : text.slice(0, end);
  const headers = new Map();
  for (const line of head.replace(/\n[ \t]+/g, " ").split("\n")) {
    const at = line.indexOf(":");
    if (at > 0) headers.set(line.slice(0, at).trim().toLowerCase(), line.slice(at + 1).trim());
  }
  return { headers, body: end < 0 ? "" : text.slice(end + 2) };
}

function plainText({ headers, body }) {
  const type = headers.get("content-type") ?? "text/plain";
  if (/^multipart\//i.test(type)) {
    const boundary = /boundary="?([^";]+)"?/i.exec(type)?.[1];
    if (!boundary) return null;
    const parts = `\n${body}`.split(`\n--${boundary}`).slice(1).filter((piece) => !piece.startsWith("--"));
    const texts = parts.map((piece) => plainText(part(piece.replace(/^[^\n]*\n/, ""))));
    return texts.find((text) => text !== null) ?? null;
  }
  if (!/^text\/plain/i.test(type)) return null;
  const encoding = (headers.get("content-transfer-encoding") ?? "").toLowerCase();
  if (encoding === "base64") return utf8(bytesOf(atob(body.replace(/\s+/g, ""))));
  if (encoding === "quoted-printable") return utf8(bytesOf(quotedPrintable(body)));
  return utf8(bytesOf(body));
}

function quotedPrintable(text) {
  return text.replace(/=\n/g, "").replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

/** Encoded words (RFC 2047) in a header. */
function decodeWords(text) {
  return text.replace(/(=\?[^?]+\?[bq]\?[^?]*\?=)\s+(?==\?)/gi, "$1").replace(/=\?[^?]+\?([bq])\?([^?]*)\?=/gi, (word, kind, data) => {
    try {
      return utf8(bytesOf(kind.toLowerCase() === "b" ? atob(data) : quotedPrintable(data.replaceAll("_", " "))));
    } catch {
      return word;
    }
  });
}
