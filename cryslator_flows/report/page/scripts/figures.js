/* Figures, in the colours of the page and at the width of screen or paper. */
const shown = new Map();

function paint(node) {
  const figure = shown.get(node);
  const paper = document.documentElement.dataset.printing === "yes";
  const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const ink = paper ? "#000" : color("--ink");
  const line = paper ? "#ccc" : color("--line");
  const axis = {gridcolor: line, zeroline: false, linecolor: line};
  const side = {...axis, linecolor: ink};
  const layout = {
    margin: {t: 30, l: 60, r: 20, b: 50}, ...figure.layout,
    template: {layout: {xaxis: axis, yaxis: axis, ternary: {aaxis: side, baxis: side, caxis: side}}},
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: {color: ink},
    modebar: {bgcolor: "transparent", color: line, activecolor: ink}, autosize: true, width: paper ? PAPER_WIDTH : undefined, height: figure.layout.height,
  };
  if (figure.layout.ternary) layout.ternary = {...figure.layout.ternary, bgcolor: "transparent"};
  if (figure.layout.scene) layout.scene = {...figure.layout.scene, bgcolor: "transparent"};
  return Plotly.react(node, figure.data, layout, {responsive: true, displaylogo: false, staticPlot: paper});
}

function draw(node, figure) {
  shown.set(node, figure);
  return paint(node);
}

function repaint() {
  document.documentElement.classList.toggle("dark", dark.matches);
  shown.forEach((_, node) => paint(node));
}

function setPrinting(printing) {
  document.documentElement.dataset.printing = printing ? "yes" : "no";
  repaint();
}

const dark = matchMedia("(prefers-color-scheme: dark)");

async function drawFigures() {
  await run(await unpack("plotly"));
  document.querySelectorAll("[data-figure]").forEach(node => draw(node, page.figures[node.dataset.figure]));
  const system = document.getElementById("system");
  const hull = document.getElementById("hull");
  if (system) {
    const show = () => {
      Plotly.purge(hull);
      draw(hull, page.hulls[system.value]);
    };
    system.onchange = show;
    show();
  }
  dark.addEventListener("change", repaint);
  addEventListener("beforeprint", () => setPrinting(true));
  addEventListener("afterprint", () => setPrinting(false));
}
