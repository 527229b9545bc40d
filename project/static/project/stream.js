// A live stream that is cut and resumed. EventSource would reconnect by itself; here one sees it happen.

import { element } from "./element.js";
import { random } from "./random.js";

const SHOWN = 12;

export function stream(card) {
  const button = (name) => card.querySelector(`[data-stream="${name}"]`);
  const list = card.querySelector(".events");
  const status = card.querySelector(".status");
  const page = random(3); // whose events these are: the topic may have those of other pages, and of yesterday
  card.dataset.page = page;
  const seen = { count: 0, id: null };
  let source = null;
  let sent = 0;

  const say = (text) => {
    status.textContent = `${text} ${seen.count} events received, the last id is ${seen.id ?? "none yet"}.`;
  };

  const receive = (event) => {
    seen.id = event.lastEventId;
    seen.count += 1;
    const what = event.type === "message" ? event.data : `${event.type}: ${event.data}`;
    list.prepend(element("li", {}, what));
    while (list.children.length > SHOWN) list.lastElementChild.remove();
    say("Open.");
  };

  const open = () => {
    const resume = seen.id === null ? "" : `?lastEventId=${encodeURIComponent(seen.id)}`;
    source = new EventSource(`/stream${resume}`);
    source.onopen = () => say("Open.");
    source.onerror = () => say("Connection lost, trying again.");
    for (const type of ["message", "delete", "binary", "gap"]) source.addEventListener(type, receive);
    button("open").disabled = true;
    button("cut").disabled = false;
  };

  const cut = () => {
    source.close();
    button("open").disabled = false;
    button("open").textContent = "Resume the stream";
    button("cut").disabled = true;
    say("Cut.");
  };

  const send = async () => {
    for (let each = 0; each < 3; each += 1) {
      sent += 1;
      const body = JSON.stringify({ page, number: sent, sent: source?.readyState === EventSource.OPEN ? "live" : "while cut" });
      await fetch("/events/page", { method: "POST", headers: { "content-type": "application/json" }, body });
    }
  };

  button("open").addEventListener("click", open);
  button("cut").addEventListener("click", cut);
  button("send").addEventListener("click", send);
}
