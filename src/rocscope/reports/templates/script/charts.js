// Charts in the page's colours, drawn when the page has opened, again when its colours or width change.
(function () {
  if (!window.Plotly) { return; }
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 48rem)");
  const idle = window.requestIdleCallback || ((work) => setTimeout(work));
  const charts = [];

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    return {
      ink: value("--ink"), quiet: value("--quiet"), line: value("--line"), card: value("--card"),
      warn: value("--warn"), font: getComputedStyle(document.body).fontFamily,
    };
  }

  function trace(one, colour, small) {
    if (one.meta === "roof") { one.line.color = colour.quiet; return; }
    if (one.meta === "gap") { one.line.color = colour.warn; return; }
    if (typeof one.meta !== "object") { return; }
    one.textfont = { color: colour.ink, size: 11 };
    one.marker.line.color = colour.card;
    if (small) { one.text = one.meta.text; one.textposition = one.meta.textposition; }
  }

  function draw(chart) {
    const { data, layout } = structuredClone(chart.figure);  // Plotly compares with what it was given before
    const paper = document.documentElement.classList.contains("printing");
    const colour = colours(), small = narrow.matches && !paper;
    const timeline = chart.place.classList.contains("timeline");
    layout.paper_bgcolor = colour.card;
    layout.plot_bgcolor = colour.card;
    layout.font = { family: colour.font, color: colour.quiet, size: small ? 11 : 12 };
    layout.hoverlabel = {
      align: "left", bgcolor: colour.card, bordercolor: colour.quiet, namelength: -1,
      font: { color: colour.ink, size: 12 },
    };
    for (const name of Object.keys(layout)) {
      if (!/^[xy]axis/.test(name)) { continue; }
      const axis = layout[name];
      axis.gridcolor = colour.line; axis.linecolor = colour.quiet; axis.tickcolor = colour.quiet;
    }
    for (const note of layout.annotations) {
      if (note.name === "row") { note.font.color = colour.ink; }
      if (note.name === "gap" || note.name === "throttled") { note.font.color = colour.warn; }
    }
    if (small) { layout.annotations = layout.annotations.filter((note) => !["on", "gap", "wide"].includes(note.name)); }
    layout.margin = timeline
      ? (small ? { l: 62, r: 42, t: 24, b: 56 } : { l: 84, r: 56, t: 24, b: 56 })
      : (small ? { l: 48, r: 8, t: 12, b: 56 } : { l: 72, r: 20, t: 20, b: 64 });
    for (const one of data) { trace(one, colour, small); }
    if (chart.range) { layout.xaxis.range = chart.range; }
    Plotly.react(chart.place, data, layout, { displayModeBar: false, responsive: true, doubleClick: "reset" });
    const ruler = document.getElementById("js-plotly-tester");  // where Plotly measures text, off the screen
    if (ruler) { ruler.setAttribute("aria-hidden", "true"); }
    chart.drawn = true;
  }

  function zoom(chart, tools) {
    const whole = chart.figure.layout.xaxis.range;
    const said = tools.querySelector("[role=status]");
    const steps = {
      in: (a, b) => [a + (b - a) / 4, b - (b - a) / 4], out: (a, b) => [a - (b - a) / 2, b + (b - a) / 2],
      left: (a, b) => [a - (b - a) / 2, b - (b - a) / 2], right: (a, b) => [a + (b - a) / 2, b + (b - a) / 2],
      all: () => whole,
    };
    tools.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) { return; }
      const [low, high] = chart.place.layout.xaxis.range;
      let [from, to] = steps[button.dataset.zoom](low, high);
      const wide = Math.min(to - from, whole[1] - whole[0]);
      from = Math.max(whole[0], Math.min(from, whole[1] - wide));
      to = from + wide;
      Plotly.relayout(chart.place, { "xaxis.range": [from, to] });
      const unit = chart.figure.layout.xaxis.title.text.split(", ").pop();
      said.textContent = Number(from.toPrecision(3)) + " to " + Number(to.toPrecision(3)) + " " + unit;
    });
  }

  for (const data of document.querySelectorAll("script[data-chart]")) {
    const place = document.getElementById(data.dataset.chart);
    const chart = { place, figure: JSON.parse(data.textContent), drawn: false };
    charts.push(chart);
    const tools = document.querySelector(`[data-for="${place.id}"]`);
    idle(() => { draw(chart); if (tools) { zoom(chart, tools); } });
  }
  idle(() => performance.mark("charts-drawn"));
  let waiting = 0;
  const redraw = (all) => charts.filter((chart) => all || chart.drawn).forEach(draw);
  const again = () => { clearTimeout(waiting); waiting = setTimeout(redraw, 300); };  // after Plotly's own resize
  dark.addEventListener("change", again);
  narrow.addEventListener("change", again);
  window.redrawCharts = redraw;
  window.resizeCharts = (width) => charts.forEach((chart) => Plotly.relayout(chart.place, width ? { width } : { width: undefined, autosize: true }));
})();
