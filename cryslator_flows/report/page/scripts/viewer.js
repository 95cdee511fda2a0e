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
