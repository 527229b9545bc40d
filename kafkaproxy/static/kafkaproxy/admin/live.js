"use strict";
// Fills the page from the server's events; where the server cannot send any, it asks every few seconds.
document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("kp-live");
  const texts = page.dataset;
  const place = (name) => page.querySelector(`[data-kp="${name}"]`);
  const put = (name, text) => { place(name).textContent = text; };
  const say = (text) => { put("state", text); place("state").hidden = !text; };
  let last = null;

  const cell = (kind, text, bad = false) => {
    const made = document.createElement(kind);
    made.textContent = text;
    if (kind === "th") made.scope = "row";
    if (bad) made.className = "kp-bad";
    return made;
  };
  const fill = (name, rows) => place(name).replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells);
    return row;
  }));
  const rate = (now, name) => {
    if (!last || now.at <= last.at || now[name] < last[name]) return "–";
    return ((now[name] - last[name]) / (now.at - last.at)).toFixed(1);
  };

  const routeRow = (row) => [
    cell("th", row.route || texts.refused), cell("td", row.gateway),
    cell("td", row["2xx"]), cell("td", row["3xx"]), cell("td", row["4xx"]), cell("td", row["5xx"], row["5xx"] > 0),
  ];
  const clusterRow = (row) => [
    cell("th", row.name),
    cell("td", row.broker === null ? texts.unknown : row.broker ? texts.up : texts.down, row.broker === 0),
    cell("td", row.own ? texts.own : row.writer ?? texts.none, !row.writer),
    cell("td", row.topics === undefined ? "–" : `${row.ready} / ${row.topics}`),
    cell("td", row.error || (row.errors || []).join(", "), true),
  ];
  const show = (now) => {
    if (last && last.process !== now.process) last = null;  // another process: its numbers are its own
    for (const name of ["streams", "waiting", "failed", "process"]) put(name, now[name]);
    put("produce-rate", rate(now, "produced"));
    put("response-rate", rate(now, "responses"));
    fill("routes", now.routes.map(routeRow));
    place("no-routes").hidden = now.routes.length > 0;
    fill("clusters", now.clusters.map(clusterRow));
    last = now;
    say("");
  };

  const ask = async () => {
    try {
      const answer = await fetch(texts.once, { redirect: "error" });
      if (!answer.ok) throw new Error(answer.status);
      show(await answer.json());
      setTimeout(ask, 2000);
    } catch {
      say(texts.over);
    }
  };
  const source = new EventSource(texts.events);
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) ask();
    else if (!last) say(texts.lost);
  };
});
