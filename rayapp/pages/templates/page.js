"use strict";
(() => {
  const text = (cell) => cell.innerText.replace(/\s+/g, " ").trim();
  const number = (cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : null);

  // Numbers before words, and what has no value last in either direction.
  function compare(a, b, sign) {
    const [x, y] = [number(a), number(b)];
    if (x !== null && y !== null) return sign * (x - y);
    if (x !== null || y !== null) return x === null ? 1 : -1;
    const [s, t] = [text(a), text(b)];
    if ((s === "–") !== (t === "–")) return s === "–" ? 1 : -1;
    return sign * s.localeCompare(t, "en", { numeric: true });
  }

  function sort(header) {
    const table = header.closest("table");
    const column = header.cellIndex;
    const firstNumeric = header.classList.contains("number") ? "descending" : "ascending";
    const before = header.getAttribute("aria-sort");
    const order = !before ? firstNumeric : before === "ascending" ? "descending" : "ascending";
    const sign = order === "ascending" ? 1 : -1;
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], sign)));
  }

  function grid(table, raw) {
    const headers = [...table.tHead.rows[0].cells];
    const rows = [...table.tBodies[0].rows];
    const bounded = headers.map((_, k) => raw && rows.some((r) => "low" in r.cells[k].dataset));
    const expand = (values) => values.flatMap((v, k) => (bounded[k] ? v : [v[0]]));
    const lines = rows.map((row) => expand([...row.cells].map((cell) => {
      const value = raw && "value" in cell.dataset ? cell.dataset.value : text(cell);
      return [raw && value === "–" ? "" : value, cell.dataset.low ?? "", cell.dataset.high ?? ""];
    })));
    return [expand(headers.map((h) => [text(h), text(h) + " low", text(h) + " high"])), ...lines];
  }

  const formats = {
    csv(table) {
      const quote = (v) => (/[",\n]/.test(v) ? '"' + v.replaceAll('"', '""') + '"' : v);
      return grid(table, true).map((line) => line.map(quote).join(",")).join("\n") + "\n";
    },
    markdown(table) {
      const numeric = [...table.tHead.rows[0].cells].map((h) => h.classList.contains("number"));
      const rule = numeric.map((right) => (right ? "---:" : ":---"));
      const [head, ...lines] = grid(table, false).map((l) => l.map((v) => v.replaceAll("|", "\\|")));
      return [head, rule, ...lines].map((l) => "| " + l.join(" | ") + " |").join("\n") + "\n";
    },
    latex(table) {
      const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
      const clean = (v) => v.replace(/[\\&%$#_{}~^]/g, (c) => special[c] ?? "\\" + c).replaceAll("–", "--");
      const [head, ...lines] = grid(table, false).map((l) => l.map(clean).join(" & ") + " \\\\");
      const align = [...table.tHead.rows[0].cells].map((h) => (h.classList.contains("number") ? "r" : "l"));
      return ["\\begin{tabular}{" + align.join("") + "}", "\\toprule", head, "\\midrule", ...lines,
        "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
    },
  };

  async function copy(button) {
    const table = button.closest(".table")?.querySelector("table");
    const content = table ? formats[button.dataset.copy](table)
      : button.dataset.text ?? button.parentNode.querySelector("pre").innerText;
    try {
      await navigator.clipboard.writeText(content);
    } catch {
      const area = document.createElement("textarea");
      area.value = content;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.dataset.copied = content;
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.copy) copy(button);
    else if (button.closest("th")) sort(button.closest("th"));
  });
})();
