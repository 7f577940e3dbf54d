// Building the page. Every value goes in as text, never as markup: names come from whoever sends events.

export const byId = (id) => document.getElementById(id);

// Characters that change how their neighbours are shown, or show nothing: with them one name could look like another.
const TRICKY = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** A text with such characters written as their code points. */
export function visible(text) {
  return text.replace(TRICKY, (c) => `\u27e8U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`);
}

/** An element with a class and children; strings become text nodes. */
export function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const child of children) {
    if (child !== null && child !== undefined) node.append(typeof child === "string" ? visible(child) : child);
  }
  return node;
}

/** Sets a text only where it differs, so that a selection or a screen reader is not disturbed each second. */
export function setText(node, text) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
}

/** A short text whose exact form shows on hover and is read aloud. */
export function amountNode({ short, long }) {
  const node = el("abbr", "", short);
  node.title = long;
  return node;
}

/** Replaces a node's children only where their markup differs. */
export function setChildren(node, ...children) {
  const fresh = node.cloneNode(false);
  fresh.append(...children.filter((child) => child !== null && child !== undefined));
  if (!fresh.isEqualNode(node)) node.replaceChildren(...fresh.childNodes);
}

/** Keeps a list's elements in step with items by key: kept, moved, made or removed, then updated. */
export function syncList(list, items, keyOf, make, update) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = known.get(key);
    known.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (child === place) place = place.nextElementSibling;
    else list.insertBefore(child, place);
    update(child, item);
  }
  for (const gone of known.values()) gone.remove();
}

/** A scope as `namespace support · user u-17`. */
export function scopeNode(scope) {
  const entries = Object.entries(scope ?? {});
  if (!entries.length) return el("span", "name", "everything");
  const node = el("span", "name");
  entries.forEach(([dimension, value], at) => {
    if (at) node.append(" · ");
    const text = document.createElement("bdi");
    text.textContent = visible(value);
    node.append(el("span", "dim", dimension.replaceAll("_", " ") + " "), text);
  });
  return node;
}

/** Offers bytes as a file. */
export function save(blob, name) {
  const link = el("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
