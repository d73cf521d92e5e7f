"use strict";
(function () {
  // Text from elsewhere is only ever set as text, never as markup.
  const STATUS_MS = 2000, SLOW_MS = 20000, NS = "http://www.w3.org/2000/svg";
  const CHARTS = [
    { title: "Tokens a second", metric: "generation_tokens_per_s", unit: "/s", of: "engine" },
    { title: "Requests running", metric: "requests_running", unit: "", of: "engine" },
    { title: "Time between tokens, p99", metric: "itl_s_p99", unit: "s", of: "engine" },
    { title: "Power", metric: "power_w", unit: "W", of: "gpu" },
    { title: "Memory busy (share of time)", metric: "memory_busy_frac", unit: "%", of: "gpu" },
    { title: "GPU busy (share of time)", metric: "busy_frac", unit: "%", of: "gpu" },
    { title: "Clock", metric: "clock_hz", unit: "Hz", of: "gpu" },
    { title: "Host CPU", metric: "cpu_frac", unit: "%", of: "host" },
  ];
  const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7a5195", "#666f7a"];
  const FAMILIES = __COLOURS__;
  let failures = 0, span = 3600, names = [];
  const $ = (id) => document.getElementById(id);

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) { made.setAttribute(key, value); }
    made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
    return made;
  }
  function svg(name, attributes, text) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes || {})) { made.setAttribute(key, value); }
    if (text !== undefined) { made.textContent = text; }
    return made;
  }
  function figure(value, unit) {
    if (value === null || value === undefined || !Number.isFinite(value)) { return "–"; }
    if (value === 0) { return "0 " + unit; }
    if (unit === "%") { return (100 * value).toPrecision(3) + " %"; }
    const steps = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"]];
    const [size, prefix] = unit === "" || unit === "/s"
      ? (Math.abs(value) >= 1e4 ? [1e3, "k"] : [1, ""])
      : steps.find(([limit]) => Math.abs(value) >= limit) || [1e-6, "µ"];
    const shown = value / size;
    const text = Math.abs(shown) >= 100 ? Math.round(shown).toString() : Number(shown.toPrecision(3)).toString();
    return text + " " + prefix + unit;
  }
  const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const date = (at) => new Date(at * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });
  const short = (subject) => subject.replace(/^(engine|gpu):(https?:\/\/)?/, "");

  async function get(path) {
    const answer = await fetch(path, { headers: { accept: "application/json" }, cache: "no-store" });
    if (!answer.ok) { throw new Error("HTTP " + answer.status); }
    return answer.json();
  }
  function table(header, rows, empty) {
    if (!rows.length) { return element("p", { class: "note" }, empty); }
    const head = element("tr", {}, ...header.map(([name, kind]) => element("th", { scope: "col", class: kind || "" }, name)));
    const body = rows.map((cells) => element("tr", {}, ...cells.map((cell, i) => i === 0
      ? element("th", { scope: "row" }, cell)
      : element("td", { class: header[i][1] || "", "data-label": header[i][0] }, cell))));
    return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  }
  const tag = (text) => element("span", { class: "tag " + text }, text);
  function replace(id, node) { $(id).replaceChildren(node); }

  function showStatus(found) {
    $("node").textContent = found.node + ", rocscope " + found.version + ", up " + figure(found.uptime_s, "s");
    const bad = found.parts.filter((part) => part.state === "failing");
    const worst = bad.length ? "failing" : found.parts.some((part) => part.state === "degraded") ? "degraded" : "ok";
    $("state").className = "tag " + worst;
    $("state").textContent = worst;
    const up = found.engines.filter((engine) => engine.up);
    const sum = (key) => {
      const known = up.map((engine) => engine[key]).filter((value) => value !== null);
      return known.length ? known.reduce((a, b) => a + b, 0) : null;
    };
    const tokens = sum("tokens_per_s");
    $("headline").textContent = up.length === 0 ? "No server runs here now"
      : up.length + (up.length === 1 ? " server" : " servers") + (tokens === null ? " up" : " up, " + figure(tokens, "/s").replace(" /s", "") + " tokens a second");
    $("lead").textContent = bad.length ? bad.map((part) => part.name + ": " + part.reason).join("; ")
      : found.open_findings ? found.open_findings + " open findings" : "Nothing has changed against its own past.";
    const windows = found.windows;
    const tiles = [
      ["Tokens a second", figure(tokens, "/s"), up.map((engine) => engine.name || short(engine.url)).join(", ")],
      ["Requests running", figure(sum("requests_running"), ""), figure(sum("requests_waiting"), "") + " waiting"],
      ["Cache in use", figure(up.length === 1 ? up[0].kv_cache_used_frac : null, "%"), ""],
      ["Open findings", found.open_findings === null ? "–" : String(found.open_findings), ""],
      ["Windows, last hour", windows ? figure(windows.duty_hour_frac, "%") : "–",
        windows ? "of " + figure(windows.max_duty_frac, "%") + " allowed" : "do not run"],
      ["Store", figure(found.store.bytes, "B"), "of " + figure(found.store.limit_bytes, "B")],
    ];
    replace("figures", fragment(tiles.map(([name, value, more]) => element("div", {}, element("dt", {}, name),
      element("dd", {}, value, element("small", {}, more))))));
    if (windows) { showWindows(windows); } else { replace("windows", element("p", { class: "note" }, "Windows do not run.")); }
    replace("engines", table([["Server"], ["State"], ["Model"], ["Tokens/s", "n"], ["Running", "n"], ["Waiting", "n"]],
      found.engines.map((engine) => [engine.url, tag(engine.up ? "up" : "down"), engine.model || "–",
        figure(engine.tokens_per_s, "/s"), figure(engine.requests_running, ""), figure(engine.requests_waiting, "")]),
      "No vLLM server was found on this node, and none is named in the settings."));
    replace("gpus", table([["GPU"], ["Power", "n"], ["Clock", "n"], ["Busy", "n"], ["Memory busy", "n"], ["Hottest", "n"], ["Memory in use", "n"], ["Throttled"]],
      found.gpus.map((gpu) => [gpu.gpu + " " + (gpu.model || gpu.bdf), figure(gpu.power_w, "W"), figure(gpu.clock_hz, "Hz"),
        figure(gpu.busy_frac, "%"), figure(gpu.memory_busy_frac, "%"), gpu.temperature_c === null ? "–" : gpu.temperature_c.toFixed(0) + " °C",
        figure(gpu.memory_used_bytes, "B"), gpu.throttled === null ? "–" : gpu.throttled ? "yes" : "no"]),
      "No GPU is read on this node."));
    replace("parts", table([["Part"], ["State"], ["Why"]], found.parts.map((part) => [part.name, tag(part.state), part.reason]), "No part runs."));
    replace("events", fragment(found.events.map((event) => element("li", {}, element("time", {}, clock(event.at)), event.text))));
  }
  function fragment(nodes) {
    const made = document.createDocumentFragment();
    made.append(...nodes);
    return made;
  }
  function showWindows(windows) {
    const off = [[!windows.enabled, "switched off"], [windows.paused, "paused"], [windows.breaker_open, "stopped after failures"]]
      .filter(([on]) => on).map(([, word]) => word);
    $("budget").textContent = off.length ? "Windows are " + off.join(" and ") + "."
      : windows.open ? "Window " + windows.open.id + " is open on " + windows.open.engine + " (" + windows.open.reason + ")."
      : windows.next_in_s === null ? "" : "The next is due in " + figure(windows.next_in_s, "s") + ".";
    replace("windows", table([["Window"], ["State"], ["Asked for by"], ["Profiled", "n"], ["Written", "n"], ["Cost in tokens/s", "n"]],
      windows.recent.map((each) => [date(each.requested_at), tag(each.state),
        each.trigger + (each.abort || each.refusal ? ": " + (each.abort || each.refusal) : ""),
        figure(each.window_s, "s"), figure(each.bytes, "B"), cost(each.overhead)]),
      "No window was asked for yet."));
  }
  function cost(overhead) {
    if (!overhead) { return "–"; }
    if (overhead.overhead_frac === null) { return overhead.why_not || "–"; }
    return figure(overhead.overhead_frac, "%");
  }

  function draw(chart, lines) {
    const W = 360, H = 136, LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 20;
    const all = lines.flatMap((line) => line.points.high.concat(line.points.mean));
    const box = element("div", { class: "chart" });
    const last = lines.length === 1 ? lines[0].points.mean.at(-1) : null;
    box.append(element("h3", {}, element("span", { class: "now" }, last === null ? "" : figure(last, chart.unit)), chart.title));
    if (lines.length > 1) {
      box.append(element("p", { class: "lines" }, ...lines.map((line, index) => {
        const name = element("span", {}, short(line.subject) + " " + figure(line.points.mean.at(-1), chart.unit));
        name.style.color = LINES[index % LINES.length];
        return name;
      })));
    }
    const most = Math.max(...all), top = most > 0 ? most * 1.08 : 1;
    const now = Date.now() / 1000, from = now - span;
    const x = (at) => LEFT + (W - LEFT - RIGHT) * (at - from) / span;
    const y = (value) => TOP + (H - TOP - BOTTOM) * (1 - value / top);
    const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img",
      "aria-label": chart.title + ": " + lines.map((line) => short(line.subject) + " now " + figure(line.points.mean.at(-1), chart.unit)).join(", ") });
    for (const share of [0, 0.5, 1]) {
      picture.append(svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(top * share), y2: y(top * share) }));
      picture.append(svg("text", { class: "axis", x: LEFT - 4, y: y(top * share) + 4, "text-anchor": "end" }, figure(top * share, chart.unit)));
    }
    picture.append(svg("text", { class: "axis", x: LEFT, y: H - 4 }, clock(from).slice(0, 5)),
      svg("text", { class: "axis", x: W - RIGHT, y: H - 4, "text-anchor": "end" }, clock(now).slice(0, 5)));
    lines.forEach((line, index) => {
      const colour = LINES[index % LINES.length], points = line.points;
      let path = "";
      points.at.forEach((at, i) => {
        const hole = i === 0 || at - points.at[i - 1] > 2.5 * points.step_s;  // a time without readings is not drawn over
        path += (hole ? "M" : "L") + x(at).toFixed(1) + " " + y(points.mean[i]).toFixed(1) + (hole ? "h.01" : "");
      });
      picture.append(svg("path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.6, "stroke-linecap": "round" }));
    });
    box.append(picture);
    return box;
  }
  async function showCharts() {
    names = await get("/api/v1/series");
    const boxes = [];
    for (const chart of CHARTS) {
      const subjects = names.filter((each) => each.metric === chart.metric && each.subject.startsWith(chart.of)).slice(0, 8);
      const lines = [];
      for (const each of subjects) {
        const query = new URLSearchParams({ subject: each.subject, metric: each.metric, over_s: span, most: 240 });
        const points = await get("/api/v1/points?" + query).catch(() => null);  // one that cannot be had costs no other
        if (points && points.at.length) { lines.push({ subject: each.subject, points }); }
      }
      if (lines.length) { boxes.push(draw(chart, lines)); }
    }
    replace("charts", boxes.length ? fragment(boxes) : element("p", { class: "note" }, "No samples are kept yet: the first come after ten seconds."));
  }
  function colour(family) { return FAMILIES[family] || "#666f7a"; }
  async function showFamilies() {
    const rows = await get("/api/v1/families?over_s=" + Math.max(span, 86400));
    const windows = new Map();
    for (const row of rows) {
      if (!windows.has(row.window_id)) { windows.set(row.window_id, { at: row.at, parts: [] }); }
      windows.get(row.window_id).parts.push(row);
    }
    if (!windows.size) { replace("families", element("p", { class: "note" }, "No window has been analysed yet.")); return; }
    const bars = element("div", { class: "bars" }), seen = new Map();
    for (const each of [...windows.values()].slice(-60)) {
      const total = each.parts.reduce((sum, part) => sum + part.busy_s, 0) || 1;
      each.parts.sort((a, b) => b.busy_s - a.busy_s);
      const words = each.parts.slice(0, 4).map((part) => part.family + " " + figure(part.busy_s / total, "%")).join(", ");
      const bar = svg("svg", { viewBox: "0 0 10 100", preserveAspectRatio: "none", role: "img", "aria-label": date(each.at) + ": " + words });
      bar.append(svg("title", {}, date(each.at) + ": " + words));
      let edge = 100;
      for (const part of each.parts) {
        const height = 100 * part.busy_s / total;
        edge -= height;
        bar.append(svg("rect", { x: 0, y: edge, width: 10, height, fill: colour(part.family) }));
        seen.set(part.family, (seen.get(part.family) || 0) + part.busy_s / total);
      }
      bars.append(bar);
    }
    const key = element("ul", { class: "key" }, ...[...seen.entries()].sort((a, b) => b[1] - a[1]).slice(0, 10).map(([family]) => {
      const swatch = svg("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" });
      swatch.append(svg("rect", { width: 1, height: 1, fill: colour(family) }));
      return element("li", {}, swatch, family);
    }));
    replace("families", fragment([bars, key]));
  }
  async function showFindings() {
    const rows = await get("/api/v1/findings?limit=20");
    replace("findings", table([["When"], ["What"], ["Change", "n"], ["Confidence"], ["State"]],
      rows.map((each) => [date(each.at), each.kind + (each.family ? ": " + each.family : ""),
        each.size_frac === null ? "–" : figure(each.size_frac, "%") + (each.low_frac === null ? "" : " (" + figure(each.low_frac, "%") + " to " + figure(each.high_frac, "%") + ")"),
        each.confidence || "–", each.state]),
      "None: nothing was found to have changed against its own comparable past."));
  }
  async function again(work, every) {
    try {
      await work();
      failures = 0;
    } catch (error) {
      failures += 1;
      $("state").className = "tag failing";
      $("state").textContent = "no answer";
    }
    setTimeout(again, document.hidden ? 5 * every : every * Math.min(8, 1 + failures), work, every);
  }
  $("spans").addEventListener("change", (event) => {
    span = Number(event.target.value);
    showCharts().catch(() => {});
    showFamilies().catch(() => {});
  });
  $("spans").addEventListener("submit", (event) => event.preventDefault());
  again(async () => showStatus(await get("/api/v1/status")), STATUS_MS);
  again(showCharts, SLOW_MS);
  again(showFamilies, SLOW_MS);
  again(showFindings, SLOW_MS);
})();
