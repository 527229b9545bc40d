// Shows the newest records of the demo's topics, as the site's own consumer sees them.

import { element, pretty } from "./element.js";

const KEPT = 40;
const PAUSE = 700;

export async function follow(list, state) {
  let after = null; // the first answer is what was there before
  for (;;) {
    if (!document.hidden) after = await look(list, state, after);
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

async function look(list, state, after) {
  try {
    const response = await fetch(`${list.dataset.url}?after=${after ?? 0}`);
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    const { records } = await response.json();
    const last = records.at(-1)?.number;
    records.sort((one, other) => one.timestamp - other.timestamp);
    for (const record of records) show(list, record, after !== null && !record.past);
    while (list.children.length > KEPT) list.lastElementChild.remove();
    if (list.children.length) state.textContent = "Newest first.";
    return last ?? after ?? 0;
  } catch (error) {
    state.textContent = `The records cannot be read: ${error.message}`;
    return after;
  }
}

function show(list, record, fresh) {
  list.prepend(item(record, fresh));
  if (fresh) document.dispatchEvent(new CustomEvent("record", { detail: record }));
}

function item(record, fresh) {
  const where = `${record.topic} [${record.partition}] @ ${record.offset}`;
  return element(
    "li", { class: fresh ? "record fresh" : "record", "data-topic": record.topic },
    element("p", { class: "where" }, element("b", {}, where), " ", element("time", {}, time(record.timestamp))),
    element("p", { class: "key" }, "key ", record.key === null ? element("i", {}, "null") : element("code", {}, record.key)),
    value(record),
    headers(record.headers),
  );
}

function value(record) {
  if (record.value === null) return element("p", { class: "tombstone" }, "null: the key is deleted");
  if (record.value === "") return element("p", { class: "tombstone" }, "empty");
  return element("pre", {}, pretty(record.value));
}

function headers(pairs) {
  if (!pairs.length) return "";
  const rows = pairs.map(([name, text]) => `${name}: ${text ?? "null"}`).join("\n");
  const title = pairs.length === 1 ? "1 header" : `${pairs.length} headers`;
  return element("details", {}, element("summary", {}, title), element("pre", {}, rows));
}

const time = (milliseconds) => new Date(milliseconds).toLocaleTimeString([], { hour12: false });
