// Tables that sort by a click on a heading, and rows that a search or a choice leaves out.
function sortBy(table, index, rising) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach(other => other.removeAttribute("aria-sort"));
  heads[index].setAttribute("aria-sort", rising ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows],
    value = row => row.cells[index].dataset.value;
  const words = index === 0 || rows.some(row => !Number.isFinite(+value(row)));
  const compare = words ? (a, b) => value(a).localeCompare(value(b)) : (a, b) => value(a) - value(b);
  rows.sort((a, b) => (value(a) === "" ? 1 : value(b) === "" ? -1 : rising ? compare(a, b) : compare(b, a)));
  table.tBodies[0].append(...rows);
}

function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, index) =>
    head.addEventListener("click", () => {
      const rising =
        head.getAttribute("aria-sort") === "descending" || (index === 0 && !head.hasAttribute("aria-sort"));
      sortBy(table, index, rising);
    }),
  );
}

function filterRows(table, text, told) {
  const rows = [...table.tBodies[0].rows],
    wanted = text.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    shown += !row.hidden;
  }
  told.textContent = `${shown} of ${rows.length} rows`;
}

for (const table of document.querySelectorAll("table")) sortable(table);
for (const search of document.querySelectorAll("input[data-filters]")) {
  const tables = search.dataset.filters.split(" ").map(id => document.getElementById(id));
  search.addEventListener("input", () =>
    tables.forEach(table => filterRows(table, search.value, search.parentElement.querySelector("output"))),
  );
}
for (const form of document.querySelectorAll("form.filters")) {
  const rows = [...document.getElementById(form.dataset.for).querySelectorAll("tbody tr")];
  const wanted = [...form.querySelectorAll("select")],
    told = form.querySelector("output");
  const filter = () => {
    const shown = rows.filter(row => {
      row.hidden = !wanted.every(one => one.value === "" || row.cells[one.dataset.column].textContent === one.value);
      return !row.hidden;
    });
    told.textContent = `${shown.length} of ${rows.length} rows`;
  };
  form.addEventListener("change", filter);
  form.addEventListener("submit", event => event.preventDefault());
  filter();
}
