"use strict";

// What the gallery and the page of the service share: marks, the lists made of them, maps of parts.
const marking = (() => {
  const WORDS = { s: "synthetic", r: "real", u: "unclear" }, ORIGINS = { synthetic: 1, real: 0 };

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/[.\s]*$/, ".");

  function counted(given) {
    const of = (word) => given.filter((one) => one === word).length;
    return given.length
      ? `${given.length} marked: ${Object.values(WORDS).map((word) => `${of(word)} ${word}`).join(", ")}.` : "No marks yet.";
  }

  const decides = (mark) => mark in ORIGINS;

  // `path,origin` a line, as the scheme `reviewed` reads it. A path that was scored under several
  // variants has several cards, and stands in the list once.
  function list(cards, markOf) {
    const marked = new Map(cards.filter((card) => decides(markOf(card))).map((card) => [card.path, markOf(card)]));
    return [...marked].map(([path, mark]) => `${path},${ORIGINS[mark]}`);
  }

  // A spreadsheet would run what begins like a formula.
  function cell(value) {
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "./" + value : String(value);
    return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  }

  function table(cards, markOf) {
    const rows = cards.filter(markOf).map((card) =>
      [card.path, markOf(card), card.verdict, card.p, card.group, card.declared ?? "", (card.lines ?? []).join("; "),
        ...(card.stands_for ? [card.group, ...card.stands_for] : ["", "", ""])]); // how it was chosen
    return [["path", "mark", "verdict", "probability", "group", "declared", "remarks", "stratum", "stratum_images", "all_images"], ...rows]
      .map((row) => row.map(cell).join(","));
  }

  function save(name, lines) {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // One pixel a part; clear where it looks real, orange where it looks synthetic.
  function heat(canvas, columns, rows, probabilities) {
    Object.assign(canvas, { width: columns, height: rows, hidden: false });
    const context = canvas.getContext("2d"), pixels = context.createImageData(columns, rows);
    probabilities.forEach((p, k) => pixels.data.set([255, 110, 0, Math.round(200 * Math.max(0, p * 2 - 1) + 25 * p)], 4 * k));
    context.putImageData(pixels, 0, 0);
  }

  // Left, top, width, height as shares of what it lies over.
  function lay(canvas, box) {
    ["left", "top", "width", "height"].forEach((side, k) => { canvas.style[side] = 100 * box[k] + "%"; });
  }

  return { WORDS, element, sentence, counted, decides, list, table, save, heat, lay };
})();
