// What the buttons do. Each action is one or more requests to the gateways, as any client would send them.

import { element } from "./element.js";
import { send } from "./exchange.js";
import { random } from "./random.js";
import { follow } from "./records.js";
import { stream } from "./stream.js";

const json = { "content-type": "application/json" };
const etags = new Map();
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const actions = {
  items: {
    put: ({ path, body }) => ["PUT", path("/items/"), json, body],
    get: ({ path }) => ["GET", path("/items/")],
    "get-if-changed": ({ path }) => {
      const etag = etags.get(path("/items/"));
      return ["GET", path("/items/"), etag ? { "if-none-match": etag } : {}];
    },
    list: () => ["GET", "/items"],
    create: ({ form, body }) => {
      const key = random();
      form.id.value = key; // so that Get finds what was created
      return ["POST", "/items", { ...json, "idempotency-key": key }, body];
    },
    delete: ({ path }) => ["DELETE", path("/items/")],
  },
  events: {
    send: ({ path, body }) => ["POST", path("/events/"), json, body],
  },
  sync: {
    put: ({ path, body }) => ["PUT", path("/sync/items/"), { ...json, "idempotency-key": random() }, body],
    get: ({ path }) => ["GET", path("/sync/items/")],
    delete: ({ path }) => ["DELETE", path("/sync/items/")],
  },
  async: {
    put: ({ path, body }) => [
      "PUT",
      path("/async/items/"),
      { ...json, prefer: "respond-async", "idempotency-key": random() },
      body,
    ],
  },
};

async function collect(output, location) {
  for (let tries = 1; tries <= 30; tries += 1) {
    await sleep(1000);
    const answer = await send(output, "GET", location);
    if (tries > 1) output.lastElementChild.previousElementSibling.remove(); // one "not yet" is enough to see
    output.lastElementChild.prepend(element("p", {}, `Asked ${tries === 1 ? "once" : `${tries} times`}.`));
    if (!answer || answer.status !== 202) return;
  }
}

async function perform(card, name) {
  const form = Object.fromEntries([...card.querySelectorAll("input")].map((input) => [input.name, input]));
  const output = card.querySelector(".exchanges");
  output.replaceChildren();
  card.querySelector(".made").replaceChildren();
  const path = (prefix) => prefix + encodeURIComponent(form.id.value);
  const [method, url, headers, body] = actions[card.id][name]({ form, path, body: form.body.value });
  card.dataset.key = form.id.value; // which may be new by now
  card.toggleAttribute("data-writes", card.id !== "items" || method !== "GET");
  const response = await send(output, method, url, headers, body);
  if (!response) return;
  if (method === "GET" && response.headers.has("etag")) etags.set(url, response.headers.get("etag"));
  const location = response.status === 202 && response.headers.get("location");
  if (location) await collect(output, location);
}

function mention(card, record) {
  if (!card.hasAttribute("data-writes") || record.key !== card.dataset.key) return;
  if (!card.dataset.topics.split(" ").includes(record.topic)) return;
  const what = record.value === null ? "null" : `${record.value.length} characters`;
  const text = `${record.topic} [${record.partition}] @ ${record.offset}, key ${record.key ?? "null"}, ${what}`;
  card.querySelector(".made").append(element("li", {}, text));
}

for (const card of document.querySelectorAll(".card[data-topics]")) {
  document.addEventListener("record", ({ detail }) => mention(card, detail));
  card.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-do]");
    if (!button || card.getAttribute("aria-busy") === "true") return;
    card.setAttribute("aria-busy", "true");
    try {
      await perform(card, button.dataset.do);
    } finally {
      card.removeAttribute("aria-busy");
    }
  });
}

stream(document.querySelector("#stream"));
follow(document.querySelector("#records"), document.querySelector("#records-state"));
