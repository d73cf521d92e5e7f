"use strict";
(function () {
  const table = document.getElementById("kernel-table");
  if (table) { kernels(table); }
  const data = document.getElementById("roofline-data");
  if (data && window.Plotly) { roofline(JSON.parse(data.textContent)); }

  function kernels(table) {
    const rows = Array.from(table.tBodies);  // one for each kernel: its row and its details
    const form = document.getElementById("filters");
    const search = document.getElementById("search");
    const selects = Array.from(form.querySelectorAll("select"));
    const shown = document.getElementById("shown");

    function filter() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        const keep = words.every((word) => row.dataset.find.includes(word)) &&
          selects.every((select) => !select.value || row.dataset[select.dataset.filter] === select.value);
        row.hidden = !keep;
        count += keep ? 1 : 0;
      }
      shown.textContent = count + " of " + rows.length + " kernels shown";
    }

    function sort(button) {
      const heading = button.closest("th");
      const down = heading.getAttribute("aria-sort") !== "descending";
      for (const other of table.tHead.querySelectorAll("[aria-sort]")) { other.setAttribute("aria-sort", "none"); }
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = button.dataset.sort;
      const value = (row) => (row.dataset[key] === "" ? null : Number(row.dataset[key]));
      const ordered = rows.slice().sort((a, b) => {
        const x = value(a), y = value(b);
        if (x === null || y === null) { return (x === null ? 1 : 0) - (y === null ? 1 : 0); }  // unknown last
        return down ? y - x : x - y;
      });
      table.append(...ordered);
    }

    form.addEventListener("input", filter);
    form.addEventListener("change", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter));
    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => sort(button));
    }
    for (const button of table.querySelectorAll("button.kernel")) {
      const more = document.getElementById(button.getAttribute("aria-controls"));
      const toggle = (open) => { button.setAttribute("aria-expanded", String(open)); more.hidden = !open; };
      button.addEventListener("click", () => toggle(more.hidden));
      toggle(false);  // without this script they stay open, so that nothing is out of reach
    }
    filter();  // a browser may have kept what was typed before a reload
  }

  function roofline(figure) {
    const chart = document.getElementById("roofline-chart");
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const narrow = window.matchMedia("(max-width: 48rem)");
    let waiting = 0;

    function themed() {
      const { data, layout } = structuredClone(figure);  // Plotly compares with what it was given before
      const style = getComputedStyle(document.documentElement);
      const ink = style.getPropertyValue("--ink").trim();
      const quiet = style.getPropertyValue("--quiet").trim();
      const line = style.getPropertyValue("--line").trim();
      const card = style.getPropertyValue("--card").trim();
      layout.paper_bgcolor = card;
      layout.plot_bgcolor = card;
      layout.font = { family: getComputedStyle(document.body).fontFamily, color: quiet, size: 13 };
      layout.hoverlabel = { align: "left", bgcolor: card, bordercolor: quiet, font: { color: ink, size: 12 } };
      for (const axis of [layout.xaxis, layout.yaxis]) {
        axis.gridcolor = line; axis.linecolor = quiet; axis.tickcolor = quiet;
      }
      layout.margin = narrow.matches ? { l: 52, r: 8, t: 12, b: 56 } : { l: 68, r: 20, t: 20, b: 64 };
      data.forEach((trace) => {
        if (trace.meta === "roof") { trace.line.color = quiet; return; }
        trace.textfont = { color: ink, size: 11 };
        trace.marker.line.color = card;
        if (narrow.matches) { trace.text = trace.text.map(() => ""); }
      });
      Plotly.react(chart, data, layout, { displayModeBar: false, responsive: true });
    }
    themed();
    const ruler = document.getElementById("js-plotly-tester");  // where Plotly measures text, off the screen
    if (ruler) { ruler.setAttribute("aria-hidden", "true"); }
    const again = () => { clearTimeout(waiting); waiting = setTimeout(themed, 300); };  // after Plotly's own resize
    dark.addEventListener("change", again);
    narrow.addEventListener("change", again);
    window.addEventListener("beforeprint", () => Plotly.Plots.resize(chart));
  }
})();
