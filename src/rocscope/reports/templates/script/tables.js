"use strict";
// Tables of kernels: found by words and filters, sorted by any figure, evidence opened and closed.
const FEW = 50;  // rows to begin with: a table of hundreds hides what comes after it
document.querySelectorAll("table[data-filters]").forEach((table) => {
  const rows = Array.from(table.tBodies);  // one for each kernel: its row and its details
  const form = document.getElementById(table.dataset.filters);
  const search = form.querySelector("input[type=search]");
  const selects = Array.from(form.querySelectorAll("select"));
  const shown = document.getElementById(table.dataset.shown);
  const rest = document.createElement("button");
  let few = true;
  rest.type = "button";
  rest.className = "all";
  table.after(rest);

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const row of table.tBodies) {  // in the order they are sorted in now
      const keep = words.every((word) => row.dataset.find.includes(word)) &&
        selects.every((select) => !select.value || row.dataset[select.dataset.filter] === select.value);
      found += keep ? 1 : 0;
      row.hidden = !keep || (few && found > FEW);
    }
    const count = few ? Math.min(found, FEW) : found;
    const narrowed = found < rows.length && count < found ? " of " + found + " found," : "";
    shown.textContent = count + narrowed + " of " + rows.length + " kernels shown";
    rest.hidden = count === found;
    rest.textContent = "Show all " + found;
  }

  // a link from elsewhere in the page leads to its row, wherever that is
  function reveal() {
    const row = rows.find((each) => each.id && "#" + each.id === location.hash);
    if (row && row.hidden) { few = false; form.reset(); setTimeout(() => { filter(); row.scrollIntoView(); }); }
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
    filter();
  }

  form.addEventListener("input", filter);
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  rest.addEventListener("click", () => {
    const next = Array.from(table.tBodies).find((row) => row.hidden);
    few = false;
    filter();
    if (next) { next.querySelector("button").focus(); }  // on from where the reader is
  });
  window.addEventListener("hashchange", reveal);
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
  reveal();
});
