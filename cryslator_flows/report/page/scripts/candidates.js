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
    data: page.rows, deferRender: true, pageLength: 25, order: [[4, "asc"]], scrollX: true, fixedColumns: {start: 1},
    columns: page.columns.map(column => ({
      title: column.title, type: "known", render: render(column), visible: column.shown,
      className: column.kind === "number" || column.kind === "steps" ? "number" : column.title === "template" ? "name" : "",
    })),
    createdRow: (row, cells) => {
      const candidate = cells[cells.length - 1];
      if (page.structures[candidate]) Object.assign(row, {tabIndex: 0}).dataset.candidate = candidate;
    },
    layout: {
      topStart: "pageLength",
      topEnd: ["search", {buttons: [
        {extend: "colvis", text: "Columns"},
        {extend: "csvHtml5", text: "CSV", filename: page.campaign, exportOptions: {orthogonal: "export", columns: () => true, format: {body: cell}}},
        {text: "JSON", action: () => save(`${page.campaign}.json`, "application/json", JSON.stringify(records(table), null, 1))},
      ]}],
    },
  });
  document.getElementById("candidates").addEventListener("click", copy);
}
