// Sends a request and shows it with its response.

import { element, pretty } from "./element.js";

// Fields of the site's own middleware and of the server say nothing about the gateway.
const dull = new Set([
  "date", "server", "cross-origin-opener-policy", "referrer-policy", "x-content-type-options", "x-frame-options",
]);

export async function send(output, method, url, headers = {}, body = undefined) {
  const shown = element("article", { class: "exchange" }, request(method, url, headers, body));
  output.append(shown);
  const started = performance.now();
  try {
    const response = await fetch(url, { method, headers, body: method === "GET" ? undefined : sent(method, body), cache: "no-store" });
    const text = await response.text();
    shown.append(...answer(response, text, performance.now() - started));
    return response;
  } catch (error) {
    shown.append(element("p", { class: "status bad" }, `No response: ${error.message}`));
    return null;
  }
}

const sent = (method, body) => (method === "DELETE" ? undefined : body);

function request(method, url, headers, body) {
  const payload = sent(method, method === "GET" ? undefined : body);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  return element(
    "div", {},
    element("p", { class: "request" }, element("b", {}, method), " ", url),
    lines.length || payload ? element("pre", {}, [...lines, ...(payload ? ["", payload] : [])].join("\n")) : "",
    element("details", {}, element("summary", {}, "as curl"), element("pre", {}, curl(method, url, headers, payload))),
  );
}

function answer(response, text, milliseconds) {
  const fields = [...response.headers].filter(([name]) => !dull.has(name)).map(([name, value]) => `${name}: ${value}`);
  const verdict = response.status >= 400 ? "bad" : "good";
  const status = `${response.status} ${response.statusText}`.trim();
  return [
    element("p", { class: `status ${verdict}` }, status, element("small", {}, ` ${Math.round(milliseconds)} ms`)),
    fields.length ? element("pre", { class: "fields-shown" }, fields.join("\n")) : "",
    text ? element("pre", { class: "body" }, pretty(text)) : "",
  ];
}

function curl(method, url, headers, payload) {
  const quote = (value) => `'${value.replaceAll("'", `'\\''`)}'`;
  const parts = ["curl -i", method === "GET" ? "" : `-X ${method}`];
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quote(`${name}: ${value}`)}`);
  if (payload) parts.push(`-d ${quote(payload)}`);
  parts.push(quote(new URL(url, location.href).href));
  return parts.filter(Boolean).join(" ");
}
