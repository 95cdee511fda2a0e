"use strict";

const page = JSON.parse(document.getElementById("data").textContent);
const PAPER_WIDTH = 660; // pixels between the margins of A4

/* Libraries lie in the page as gzip in base64, and are unpacked when they are needed. */
async function unpack(name) {
  const packed = Uint8Array.from(atob(document.getElementById(name).textContent), char => char.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/* The page's policy lets no script run but this one and what it makes. */
function run(code) {
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = URL.createObjectURL(new Blob([code], {type: "text/javascript"}));
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  });
}

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

/* The table of candidates. */
const escaped = value => String(value).replace(/[&<>"']/g, char => `&#${char.charCodeAt(0)};`);

const kinds = {
  text: value => escaped(value),
  number: (value, column) => value.toFixed(column.decimals),
  steps: value => escaped(value[0]),
  jobs: value => value.map(describeJob).join(" "),
};

function describeJob([start, uuid, link]) {
  const hint = page.jobCommand ? `${page.jobCommand} ${uuid}` : uuid;
  const short = `<button class="uuid" data-uuid="${escaped(uuid)}" title="${escaped(hint)}; click to copy the uuid">`
    + `${escaped(uuid.slice(0, 8))}</button>`;
  return `${escaped(start)} ${short}${link ? ` <a href="${escaped(link)}" title="directory of the job">files</a>` : ""}`;
}

/* What a cell is sorted and searched by, and what is exported. */
function plain(column, value) {
  if (value === null) return null;
  if (column.kind === "steps") return value[1];
  if (column.kind === "jobs") return value.map(job => job[1]).join(" ");
  return value;
}

function exported(column, value) {
  return value !== null && column.kind === "steps" ? value[0] : plain(column, value);
}

function render(column) {
  return (value, use) => {
    if (use === "display") return value === null ? "" : kinds[column.kind](value, column);
    if (use === "export" || use === "filter") return exported(column, value) ?? "";
    return plain(column, value);
  };
}

/* A cell that no spreadsheet takes for a formula. */
function cell(value) {
  return /^[=+\-@\t\r]/.test(value) && isNaN(value) ? `'${value}` : value;
}

function save(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], {type}));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function copy(event) {
  const button = event.target.closest("[data-uuid]");
  if (!button) return;
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.uuid);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = before; }, 1000);
  } catch {
    button.textContent = button.dataset.uuid; // no access to the clipboard: shown in full, to be selected
  }
}

async function fillTable() {
  const code = new Blob([await unpack("datatables")], {type: "text/javascript"});
  const {jQuery: $} = await import(URL.createObjectURL(code));
  const {order} = $.fn.dataTable.ext.type;
  const compare = (a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
  const last = sign => (a, b) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b));
  order["known-asc"] = last(1); // unknown cells come last, in either direction
  order["known-desc"] = last(-1);
  const records = table => table.rows({search: "applied", order: "applied"}).data().toArray().map(cells =>
    Object.fromEntries(page.columns.map((column, index) => [column.title, exported(column, cells[index])])));
  const table = $("#candidates").DataTable({
    data: page.rows, deferRender: true, pageLength: 25, order: [[4, "asc"]],
    columns: page.columns.map(column => ({title: column.title, type: "known", render: render(column)})),
    layout: {
      topStart: "pageLength",
      topEnd: ["search", {buttons: [
        {extend: "csvHtml5", text: "CSV", filename: page.campaign, exportOptions: {orthogonal: "export", format: {body: cell}}},
        {text: "JSON", action: () => save(`${page.campaign}.json`, "application/json", JSON.stringify(records(table), null, 1))},
      ]}],
    },
  });
  document.getElementById("candidates").addEventListener("click", copy);
}

/* The structures of one candidate side by side; turning one turns all. */
const views = [];
let turning = false;

function turnOthers(viewer, camera) {
  if (turning) return;
  turning = true;
  views.filter(other => other.viewer !== viewer).forEach(other => other.viewer.applySettings({camera}));
  turning = false;
}

function addView() {
  const figure = document.createElement("figure");
  const box = document.createElement("div");
  const caption = document.createElement("figcaption");
  figure.append(box, caption);
  document.getElementById("views").append(figure);
  const viewer = new Chemiscope.MoleculeViewer(box, []);
  viewer.applySettings({unitCell: true, bonds: true, axes: "abc"});
  viewer.onSettingChange((keys, value) => {
    if (keys[0] === "camera") turnOthers(viewer, value);
  });
  views.push({figure, caption, viewer});
}

function view(candidate) {
  const {structures, cif} = page.structures[candidate];
  const items = Object.entries(structures);
  // Browsers allow few WebGL contexts, so the viewers stay and show one candidate after the other.
  while (views.length < items.length) addView();
  views.forEach(({figure, caption, viewer}, index) => {
    figure.classList.toggle("spare", index >= items.length);
    if (index >= items.length) return;
    const [name, structure] = items[index];
    caption.textContent = `${name}: ${structure.words}`;
    viewer.load(structure);
    viewer.applySettings({}); // styles the new atoms
    viewer.resize(); // draws them
  });
  const link = document.getElementById("cif");
  link.hidden = !cif;
  link.href = cif ?? "";
}

function prepareViewer() {
  const open = document.getElementById("open");
  if (!open) return;
  const chosen = document.getElementById("candidate");
  open.onclick = async () => {
    open.disabled = true;
    open.textContent = "Opening ...";
    // chemiscope's controls are styled for its full page; here they are hidden.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(".chemiscope-modal, .chsp-viewer-button, .chsp-cell-info { display: none !important; }");
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    // chemiscope includes another plotly and removes styles with the id of plotly's styles.
    document.getElementById("plotly.js-style-global").removeAttribute("id");
    await run(await unpack("chemiscope"));
    open.hidden = true;
    chosen.onchange = () => view(chosen.value);
    view(chosen.value);
  };
}

(async () => {
  document.documentElement.classList.toggle("dark", dark.matches);
  prepareViewer();
  await drawFigures();
  await fillTable();
  document.documentElement.dataset.ready = "yes";
})();
