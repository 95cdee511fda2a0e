/* The structures of one candidate as drawings of one scale; turning one turns all. */
const SIDE = 320; // units of a drawing, which is as wide as high
const drawings = new Map(); // from each drawing to what it shows
// The rows of this turn point to the right, up, and to the eye; along an axis atoms would hide each other.
let view3d = turned([[0, 1, 0], [0, 0, 1], [1, 0, 0]], -0.44, -0.21);
let scale = 1; // units per angstrom, of all drawings

/* What is in front goes right and up, in radians. */
function turned([x, y, z], right, up) {
  const rotated = (a, b, angle) => a.map((value, k) => Math.cos(angle) * value + Math.sin(angle) * b[k]);
  [y, z] = [rotated(y, z, up), rotated(z, y, -up)];
  [x, z] = [rotated(x, z, right), rotated(z, x, -right)];
  return [x, y, z];
}

function turn(right, up) {
  view3d = turned(view3d, right, up);
  drawings.forEach((_, svg) => paintDrawing(svg));
}

const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const volume = ([a, b, c]) => Math.abs(dot(a, cross(b, c)));
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const inCell = (cell, place) => [0, 1, 2].map(k => dot(place, [cell[0][k], cell[1][k], cell[2][k]]));
const between = (a, b, share) => a.map((value, index) => (Array.isArray(value) ? between(value, b[index], share) : value + share * (b[index] - value)));

/* Positions on the drawing and depth, about the middle of the cell. */
function project(cell, place) {
  const position = inCell(cell, place.map(value => value - 0.5));
  const [x, y, z] = view3d.map(row => dot(row, position));
  return {x: x * scale, y: -y * scale, z, position};
}

function atomsOf({symbols, cell, sites, images}) {
  return images.map(([index, ...shift]) => (
    {...project(cell, sites[index].map((value, k) => value + shift[k])), index, symbol: symbols[index]}));
}

function line(from, to, look) {
  return {z: (from.z + to.z) / 2, text: `<line x1="${from.x.toFixed(2)}" y1="${from.y.toFixed(2)}" x2="${to.x.toFixed(2)}" y2="${to.y.toFixed(2)}" ${look}/>`};
}

const middle = (a, b) => ({x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, z: (a.z + b.z) / 2});

function cellEdges(cell, look) {
  const corners = [0, 1, 2, 3, 4, 5, 6, 7].map(bits => project(cell, [bits & 1, bits >> 1 & 1, bits >> 2]));
  // In four parts, each at its own depth among the atoms.
  return corners.flatMap((corner, bits) => [1, 2, 4].filter(bit => !(bits & bit)).flatMap(bit => {
    const half = middle(corner, corners[bits | bit]);
    return [[corner, middle(corner, half)], [middle(corner, half), half], [half, middle(half, corners[bits | bit])],
      [middle(half, corners[bits | bit]), corners[bits | bit]]].map(([from, to]) => line(from, to, look));
  }));
}

function bondLines(atoms) {
  const {colors, bonds} = page.atoms;
  return atoms.flatMap((one, index) => atoms.slice(0, index).flatMap(other => {
    const longest = bonds[[one.symbol, other.symbol].sort().join("-")] ?? 0;
    if (Math.hypot(...one.position.map((value, k) => value - other.position[k])) > longest) return [];
    const half = middle(one, other);
    return [[one, half], [other, half]].map(([from, to]) => line(from, to, `class="bond" stroke="${colors[from.symbol]}"`));
  }));
}

function balls(atoms, look) {
  return atoms.map(({x, y, z, index, symbol}) => ({z, text:
    `<circle cx="${x.toFixed(2)}" cy="${y.toFixed(2)}" r="${(page.atoms.radii[symbol] * scale).toFixed(2)}" data-site="${index}" ${look(symbol)}/>`}));
}

/* Far parts first, and below them what `before` was, as outlines. */
function paintDrawing(svg) {
  const {structure, before} = drawings.get(svg);
  const atoms = atomsOf(structure);
  const parts = [
    ...cellEdges(structure.cell, 'class="edge"'), ...bondLines(atoms), ...balls(atoms, symbol => `class="atom" fill="url(#ball-${symbol})"`),
  ].sort((a, b) => a.z - b.z);
  const old = before ? atomsOf(before) : [];
  const outlines = before ? [...cellEdges(before.cell, 'class="edge old"'), ...balls(old, () => 'class="old"')] : [];
  const moves = old.map((atom, index) => line(atom, atoms[index], 'class="move"'));
  const bar = `<path class="bar" d="M${10 - SIDE / 2} ${SIDE / 2 - 8}h${(2 * scale).toFixed(2)}"/><text x="${10 - SIDE / 2}" y="${SIDE / 2 - 13}">2 Å</text>`;
  svg.innerHTML = [...outlines, ...parts, ...moves].map(({text}) => text).join("") + bar;
}

function addDrawing(figure, name, shows) {
  figure.insertAdjacentHTML("afterbegin", `<svg viewBox="${-SIDE / 2} ${-SIDE / 2} ${SIDE} ${SIDE}" tabindex="0" role="img"></svg>`);
  const svg = figure.firstElementChild;
  svg.setAttribute("aria-label", `${name}; drag or press the arrow keys to turn`);
  svg.onpointerdown = event => svg.setPointerCapture(event.pointerId);
  svg.onpointermove = event => {
    if (event.buttons) turn(event.movementX / 100, -event.movementY / 100);
  };
  svg.onkeydown = event => {
    const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
    if (!steps) return;
    event.preventDefault();
    turn(...steps.map(step => step / 10));
  };
  drawings.set(svg, shows);
  paintDrawing(svg);
  return svg;
}

/* Files of a structure, with its sites in their order. */
const digits = (row, number) => row.map(value => value.toFixed(number).padStart(number + 5)).join(" ");
const ownSites = ({sites, drift}) => sites.map(site => site.map((value, k) => (((value + drift[k]) % 1) + 1) % 1));

const files = {
  CIF(title, structure) {
    const {cell, symbols} = structure;
    const lengths = cell.map(row => Math.hypot(...row));
    const angles = [[1, 2], [0, 2], [0, 1]].map(([i, j]) => Math.acos(dot(cell[i], cell[j]) / lengths[i] / lengths[j]) * 180 / Math.PI);
    const names = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"];
    return [
      `data_${title.replace(/[^\w-]/g, "_")}`, "_symmetry_space_group_name_H-M 'P 1'", "_symmetry_Int_Tables_number 1",
      ...[...lengths, ...angles].map((value, index) => `_cell_${names[index]} ${value.toFixed(6)}`),
      "loop_", "_symmetry_equiv_pos_as_xyz", "'x, y, z'", "loop_", "_atom_site_label", "_atom_site_type_symbol", "_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z",
      ...ownSites(structure).map((site, index) => `${symbols[index]}${index + 1} ${symbols[index]} ${digits(site, 6)}`), "",
    ].join("\n");
  },
  POSCAR(title, structure) {
    const runs = structure.symbols.reduce((found, symbol) => {
      if (found.at(-1)?.[0] === symbol) found.at(-1)[1] += 1;
      else found.push([symbol, 1]);
      return found;
    }, []);
    return [
      title, "1.0", ...structure.cell.map(row => digits(row, 6)), runs.map(([symbol]) => symbol).join(" "),
      runs.map(([, number]) => number).join(" "), "direct", ...ownSites(structure).map(site => digits(site, 6)), "",
    ].join("\n");
  },
};

function addStructure(place, title, name, structure) {
  const figure = document.createElement("figure");
  place.append(figure);
  addDrawing(figure, `${title}, ${name}`, {structure});
  figure.insertAdjacentHTML("beforeend", `<figcaption>${escaped(name)}: ${escaped(structure.words)}<br></figcaption>`);
  for (const [kind, write] of Object.entries(files)) {
    const button = document.createElement("button");
    const file = `${title} ${name}`.replace(/\W+/g, "-");
    button.textContent = kind;
    button.setAttribute("aria-label", `${kind} of the structure, ${name}`);
    button.onclick = () => save(kind === "CIF" ? `${file}.cif` : `${file}.vasp`, "text/plain", write(`${title} ${name}`, structure));
    figure.lastElementChild.append(button, " ");
  }
}

/* The way of the atoms from structure to structure, with a slider. */
function addOverlay(place, title, path, structures) {
  const before = structures[path[0]];
  const shows = {before, structure: before};
  const stops = path.map(name => name.split(",")[0]);
  place.insertAdjacentHTML("beforeend", `<figure id="overlay"><figcaption><input type="range" id="way" min="0" max="${100 * (path.length - 1)}" value="0" aria-label="way of the atoms">`
    + `<div class="stops">${stops.map(name => `<span>${escaped(name)}</span>`).join("")}</div><output></output></figcaption></figure>`);
  const figure = place.lastElementChild;
  const svg = addDrawing(figure, `${title}, all on top of each other`, shows);
  const slider = figure.querySelector("input");
  slider.oninput = () => {
    const stage = Math.min(Math.floor(slider.value / 100), path.length - 2);
    const share = slider.value / 100 - stage;
    const [from, to] = [structures[path[stage]], structures[path[stage + 1]]];
    const cell = between(from.cell, to.cell, share);
    const sites = between(from.sites, to.sites, share);
    shows.structure = {...before, cell, sites};
    const moved = sites.map((site, index) => Math.hypot(...inCell(before.cell, site.map((value, k) => value - before.sites[index][k]))));
    const change = 100 * (volume(cell) / volume(before.cell) - 1);
    const words = share === 0 ? stops[stage] : share === 1 ? stops[stage + 1] : `${Math.round(100 * share)} % of the way from ${stops[stage]} to ${stops[stage + 1]}`;
    slider.setAttribute("aria-valuetext", words);
    figure.querySelector("output").textContent = `${words}: volume ${change < 0 ? "" : "+"}${change.toFixed(1)} %, largest move ${Math.max(...moved).toFixed(3)} Å`;
    paintDrawing(svg);
  };
  slider.oninput();
}

function view(candidate) {
  const {formula, structures, path} = page.structures[candidate];
  const place = document.getElementById("views");
  const title = `${formula} ${candidate}`;
  const reach = Object.values(structures).flatMap(({cell}) => [[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]].map(signs => Math.hypot(...inCell(cell, signs)) / 2));
  const symbols = [...new Set(Object.values(structures).flatMap(structure => structure.symbols))];
  scale = (SIDE / 2 - 4) / (Math.max(...reach) + Math.max(...symbols.map(symbol => page.atoms.radii[symbol])));
  drawings.clear();
  place.replaceChildren();
  document.getElementById("legend").innerHTML = symbols.map(symbol =>
    `<li><svg viewBox="-9 -9 18 18" aria-hidden="true"><circle class="atom" r="8" fill="url(#ball-${symbol})"/></svg>${symbol}</li>`).join("");
  Object.entries(structures).forEach(([name, structure]) => addStructure(place, title, name, structure));
  if (path.length > 1) addOverlay(place, title, path, structures);
}

function prepareViewer() {
  const chosen = document.getElementById("candidate");
  if (!chosen) return;
  const shade = (color, share) => `color-mix(in srgb, ${color} ${share}%, ${share < 60 ? "white" : "black"})`;
  document.getElementById("balls").innerHTML = Object.entries(page.atoms.colors).map(([symbol, color]) =>
    `<radialGradient id="ball-${symbol}" cx=".36" cy=".32" r=".75"><stop offset="0" style="stop-color: ${shade(color, 40)}"/>`
    + `<stop offset=".45" style="stop-color: ${color}"/><stop offset="1" style="stop-color: ${shade(color, 65)}"/></radialGradient>`).join("");
  chosen.onchange = () => view(chosen.value);
  view(chosen.value);
}
