// A live stream whose connection the server breaks. The browser's own EventSource comes back by itself, with the last id it
// saw; this page numbers what it sends, so that it can say whether anything was lost or came twice.

import { element } from "./element.js";
import { random } from "./random.js";

const SHOWN = 12;

export function stream(card) {
  const button = (name) => card.querySelector(`[data-stream="${name}"]`);
  const list = card.querySelector(".events");
  const status = card.querySelector(".status");
  const verdict = card.querySelector(".verdict");
  const page = random(3); // whose events these are: the topic may have those of other pages, and of yesterday
  card.dataset.page = page;
  const arrived = new Map(); // number → how often
  let sent = 0;
  let id = "none yet";
  let source = null;
  let broken = () => {};

  const isOpen = () => source?.readyState === EventSource.OPEN;

  const show = (text, kind) => {
    list.prepend(element("li", kind ? { class: kind } : {}, text));
    while (list.children.length > SHOWN) list.lastElementChild.remove();
  };

  const judge = () => {
    if (!sent) return;
    const last = Math.max(0, ...arrived.keys()); // they have one key, so Kafka keeps them in order
    const missing = last - arrived.size;
    const twice = [...arrived.values()].filter((times) => times > 1).length;
    const found = [`${arrived.size} of ${sent} arrived`];
    if (last < sent) found.push(isOpen() ? `${sent - last} on their way` : `${sent - last} waiting in Kafka`);
    found.push(`${missing || "none"} missing`, `${twice || "none"} twice`);
    verdict.textContent = `${found.join(", ")}.`;
    verdict.className = `verdict ${missing || twice ? "bad" : last === sent ? "good" : ""}`;
  };

  const receive = ({ type, data, lastEventId }) => {
    id = lastEventId;
    const number = type === "message" && numbered(data, page);
    if (number) arrived.set(number, (arrived.get(number) ?? 0) + 1);
    show(type === "message" ? data : `${type}: ${data}`, number ? "own" : "");
    status.textContent = `Open. The last id is ${id}.`;
    judge();
  };

  const opened = () => {
    if (source.cut) show("The browser is back, with the last id it saw.", "back");
    source.cut = false;
    status.textContent = `Open. The last id is ${id}.`;
    button("cut").disabled = false;
    judge();
  };

  const lost = () => {
    if (!source.cut) show("The connection broke.", "lost");
    source.cut = true;
    const next = source.readyState === EventSource.CLOSED ? "Load the page anew." : "The browser tries again in a few seconds.";
    status.textContent = `Connection lost. ${next} The last id it saw is ${id}.`;
    button("cut").disabled = true;
    judge();
    broken();
  };

  const open = () => {
    source = new EventSource(`/stream?page=${page}`); // the page tells the server which connection to break
    source.onopen = opened;
    source.onerror = lost;
    for (const type of ["message", "delete", "binary", "gap"]) source.addEventListener(type, receive);
    button("open").disabled = true;
  };

  const cut = async () => {
    button("cut").disabled = true;
    const seen = new Promise((resolve) => { broken = resolve; });
    const response = await fetch(`${card.dataset.cut}?page=${page}`, { method: "POST" });
    if (!response.ok) {
      status.textContent = `Not cut: ${await response.text()}`;
      return;
    }
    await seen;
    await send();
  };

  const send = async () => {
    const when = isOpen() ? "live" : source ? "while cut" : "before";
    for (let each = 0; each < 3; each += 1) {
      sent += 1;
      const body = JSON.stringify({ page, number: sent, sent: when });
      const options = { method: "POST", headers: { "content-type": "application/json" }, body };
      const response = await fetch("/events/page", options).catch(() => ({ ok: false }));
      if (!response.ok) {
        sent -= 1;
        status.textContent = "Not sent: is the server there?";
        return;
      }
      judge();
    }
  };

  button("open").addEventListener("click", open);
  button("cut").addEventListener("click", cut);
  button("send").addEventListener("click", send);
}

function numbered(data, page) {
  try {
    const event = JSON.parse(data);
    return event.page === page ? event.number : null;
  } catch {
    return null; // somebody else's
  }
}
