// Searching and sorting the list of tasks; without it the page is whole, but for these.
"use strict";
const table = document.getElementById("threads");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const label = document.querySelector("label.search");
  const input = label.querySelector("input");
  const shown = label.querySelector("output");
  const texts = rows.map((row) => Array.from(row.cells, (cell) => cell.textContent).join(" ").toLowerCase());
  const search = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let count = 0;
    rows.forEach((row, number) => {
      row.hidden = !words.every((word) => texts[number].includes(word));
      count += !row.hidden;
    });
    shown.value = `${count} shown`;
  };
  input.addEventListener("input", search);
  label.hidden = false;
  search();

  const order = new Intl.Collator(undefined, { numeric: true }).compare;
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent;
  };
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.ariaSort === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = sign > 0 ? "ascending" : "descending";
      const keyed = rows.map((row) => [value(row, column), row]);
      keyed.sort(([a, first], [b, second]) =>
        // what is not known comes last either way
        (a === "") - (b === "") || sign * order(a, b) || rows.indexOf(first) - rows.indexOf(second));
      body.append(...keyed.map(([, row]) => row));
    });
  });
}
