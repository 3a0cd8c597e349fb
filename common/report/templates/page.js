"use strict";
// Sorts a table by the column whose heading is clicked: numbers by value, missing values last.
const number = /^-?\d+(\.\d+)?(e[-+]?\d+)?/i;
function compare(a, b) {
  const missing = (a === "" || a === "-") - (b === "" || b === "-");
  if (missing) return { missing };
  const [x, y] = [a.match(number), b.match(number)];
  return { order: x && y ? x[0] - y[0] : a.localeCompare(b, "en", { numeric: true }) };
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.title = "Sort by this column";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const sign = head.ariaSort === "ascending" ? -1 : 1;
      for (const other of heads) other.ariaSort = "none";
      head.ariaSort = sign > 0 ? "ascending" : "descending";
      const rows = [...table.tBodies[0].rows].map((row) => [row.cells[column].textContent.trim(), row]);
      rows.sort(([a], [b]) => {
        const { missing, order } = compare(a, b);
        return missing ?? sign * order;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
// Shows the value of the point under the pointer at once; without this script, browsers wait.
const tip = document.body.appendChild(document.createElement("div"));
tip.className = "tip";
tip.hidden = true;
for (const title of document.querySelectorAll("figure .hover > title")) {
  const point = title.parentNode;
  const text = title.textContent;
  title.remove();
  point.addEventListener("pointerenter", (event) => {
    tip.textContent = text;
    tip.hidden = false;
    const left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${event.clientY + 14}px`;
  });
  point.addEventListener("pointerleave", () => { tip.hidden = true; });
}
