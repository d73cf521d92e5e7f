// On paper: light colours, everything open that the page folds away, charts as wide as the sheet.
(function () {
  let opened = [];
  const sheet = 680;  // px of A4 and Letter between their margins
  window.addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    for (const each of opened) { each.open = true; }
    if (window.redrawCharts) { window.redrawCharts(true); window.resizeCharts(sheet); }
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    for (const each of opened) { each.open = false; }
    opened = [];
    if (window.redrawCharts) { window.redrawCharts(false); window.resizeCharts(0); }
  });
})();
