"use strict";
// Figures are plain data. Colors are names ("@c0", "@ink:0.2"), so light and dark can change while the page is open.
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;
  const selected = {};

  function color(name) {
    const [token, alpha] = name.slice(1).split(":");
    const hex = getComputedStyle(document.documentElement).getPropertyValue("--" + token).trim();
    if (!alpha) return hex;
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return "rgba(" + parts.join(",") + "," + alpha + ")";
  }

  function paint(value, key) {
    if (Array.isArray(value)) return value.map((element) => paint(element, key));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, paint(inner, name)]));
    return typeof value === "string" && value[0] === "@" && /color$/.test(key) ? color(value) : value;
  }

  function layout(figure, narrow) {
    const axis = { gridcolor: "@grid", zerolinecolor: "@line", linecolor: "@line", automargin: true, tickcolor: "@line" };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: coarse ? false : "zoom",
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12, color: "@soft" },
      margin: { l: 8, r: 12, t: 8, b: 8 },
      hoverlabel: { bgcolor: "@card", bordercolor: "@line", font: { color: "@ink" }, align: "left" },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: "@ink" } },
    };
    const merged = Object.assign(base, figure.layout);
    for (const name of Object.keys(merged).filter((key) => /^[xy]axis/.test(key)))
      merged[name] = Object.assign({}, axis, merged[name], { title: Object.assign({ standoff: 12 }, merged[name].title) });
    return merged;
  }

  function draw(id) {
    const element = document.getElementById(id);
    const figure = figures[id];
    if (!element || !figure) return;
    const narrow = element.clientWidth < 560;
    const data = figure.data.map((trace) => {
      const full = trace.shared ? Object.assign({}, figure.shared, trace) : trace;
      if (!figure.tabs || trace.tab === undefined) return full;
      return Object.assign({}, full, { visible: trace.tab === (selected[id] || 0) });
    });
    const config = { displayModeBar: false, responsive: true, typesetMath: false };
    Plotly.react(element, paint(data, ""), paint(layout(figure, narrow), ""), config);
  }

  for (const button of document.querySelectorAll("button[data-chart]"))
    button.addEventListener("click", () => {
      for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
      selected[button.dataset.chart] = Number(button.dataset.tab);
      draw(button.dataset.chart);
    });
  const drawAll = () => Object.keys(figures).forEach(draw);
  dark.addEventListener("change", drawAll);
  // Paper has a width of its own: draw again when printing starts and ends.
  addEventListener("beforeprint", drawAll);
  addEventListener("afterprint", drawAll);
  drawAll();
})();
