/* Figures, in the colours of the page and at the width of screen or paper. */
const shown = new Map();

function paint(node) {
  const paper = document.documentElement.dataset.printing === "yes";
  const style = getComputedStyle(document.documentElement);
  const onPaper = {"--ink": "#000", "--line": "#ccc"};
  const colored = text => text.replace(/var\((--\w+)\)/g, (_, name) => (paper && onPaper[name]) || style.getPropertyValue(name).trim());
  const {data, layout, template} = JSON.parse(colored(JSON.stringify({...shown.get(node), template: page.template})));
  return Plotly.react(node, data, {
    margin: {t: 30, l: 60, r: 20, b: 50}, ...layout, template, autosize: true, width: paper ? PAPER_WIDTH : undefined,
  }, {responsive: true, displaylogo: false, staticPlot: paper});
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
  prepareHulls();
  dark.addEventListener("change", repaint);
  addEventListener("beforeprint", () => setPrinting(true));
  addEventListener("afterprint", () => setPrinting(false));
}

/* The phase diagram of a system, by the engine's energies or by predicted ones. */
function prepareHulls() {
  const [system, energies, hull] = ["system", "energies", "hull"].map(name => document.getElementById(name));
  if (!system) return;
  const show = () => {
    const {predicted, engine} = page.hulls;
    const found = (energies?.value === "engine" ? engine : predicted)[system.value];
    document.getElementById("no-hull").hidden = found !== undefined;
    Plotly.purge(hull);
    draw(hull, found ?? predicted[system.value] ?? engine[system.value]);
  };
  system.onchange = show;
  if (energies) energies.onchange = show;
  show();
}
