"use strict";

// One image on the page of the service: its picture, small, and what is said of it.
const serviceCard = (() => {
  const template = document.querySelector("#result");

  const percent = (p) => `${100 * Math.min(Math.max(p, 0), 1)}%`;
  const short = (p) => String(Number(p.toPrecision(3)));

  function made(entry) {
    const item = template.content.firstElementChild.cloneNode(true), card = item.firstElementChild;
    card.dataset.id = entry.id;
    for (const [selector, name] of [["h3", "name"], [".state", "state"], [".sentence", "sentence"]]) {
      card.querySelector(selector).id = `${name}-${entry.id}`;
    }
    card.setAttribute("aria-labelledby", `name-${entry.id}`);
    card.setAttribute("aria-describedby", `state-${entry.id} sentence-${entry.id}`);
    card.querySelector(".name").textContent = entry.path;
    return item;
  }

  // Everything that is known of the entry; `mark` is its own, `withMap` the page's.
  function show(card, entry, mark, withMap) {
    const part = (selector) => card.querySelector(selector);
    Object.assign(card.dataset, { state: entry.state, verdict: entry.row?.verdict ?? "" });
    card.setAttribute("aria-busy", ["waiting", "sending"].includes(entry.state));
    part(".state").textContent = entry.note ?? "";
    part(".state").hidden = !entry.note;
    const image = part("img"), source = entry.address ?? entry.thumbnail;
    if (source && image.getAttribute("src") !== source) image.src = source;
    part(".unseen").hidden = !entry.unseen;
    part('[name="again"]').hidden = !entry.file || !["judged", "failed"].includes(entry.state);
    part(".judged").hidden = part(".marking").hidden = part(".verdict").hidden = !entry.row;
    part(".picture").classList.remove("mapped");
    part("canvas").hidden = true;
    if (!entry.row) return;
    judgedWords(entry, part);
    overlay(entry, withMap, part);
    for (const button of part(".marking").children) button.setAttribute("aria-pressed", button.dataset.mark === mark);
  }

  function judgedWords({ row, detector }, part) {
    part(".verdict").textContent = row.verdict;
    part(".sentence").textContent = row.in_words;
    scale(row, detector, part);
    part(".conflict").textContent = row.conflict ? marking.sentence(row.conflict) : "";
    part(".conflict").hidden = !row.conflict;
    const others = (row.reasons ?? []).filter((one) => one !== row.conflict && !row.in_words.includes(one));
    part(".reasons").replaceChildren(...others.map((one) => marking.element("li", "", marking.sentence(one))));
    part(".reasons").hidden = !others.length;
    const said = part(".declared"), known = row.declared && row.declared !== "nothing";
    said.textContent = !known ? said.dataset.nothing
      : [`${row.declared} (${row.declared_by}).`, row.declared_detail && marking.sentence(row.declared_detail),
        /, verified$/.test(row.declared_by) ? "" : said.dataset.weak].filter(Boolean).join(" ");
    const firm = part(".stability"), spanned = row.p_min !== null && row.p_min !== undefined;
    part(".firm").hidden = !spanned;
    if (spanned) firm.textContent = `${row.flips ? firm.dataset.depends : firm.dataset.stands}. Its probability goes from ${row.p_min.toFixed(3)} to ${row.p_max.toFixed(3)}.`;
    part(".file").textContent = `${row.width} × ${row.height} px, ${row.format}, sha256 ${row.sha256.slice(0, 16)}…`;
    part(".by").textContent = `${detector.name}, hash ${detector.hash.slice(0, 12)}`;
  }

  // Where the probability lies between real and synthetic; of several classes there is no such line.
  function scale(row, { threshold, band }, part) {
    const lined = threshold !== null && threshold !== undefined;
    part(".scale").hidden = !lined;
    const limits = band ? `unsure from ${short(band[0])} to ${short(band[1])}` : "";
    part(".figures").textContent = [`p = ${row.probability.toFixed(3)}`, lined ? `decides at ${short(threshold)}` : "", limits].filter(Boolean).join(" · ");
    if (!lined) return;
    part(".needle").style.left = percent(row.probability);
    part(".threshold").style.left = percent(threshold);
    part(".band").hidden = !band;
    if (band) Object.assign(part(".band").style, { left: percent(band[0]), width: percent(band[1] - band[0]) });
  }

  function overlay({ row, thumbnail }, withMap, part) {
    const canvas = part("canvas"), note = part(".map-note"), cells = row.map ? row.map.rows * row.map.columns : 0;
    note.hidden = !withMap || cells > 1;
    note.textContent = cells ? note.dataset.whole : note.dataset.none;
    if (!withMap || cells < 2 || !thumbnail) return;
    const p = row.map.probabilities.flat(), [left, top, right, bottom] = row.map.box;
    marking.heat(canvas, row.map.columns, row.map.rows, p);
    marking.lay(canvas, [left / row.width, top / row.height, (right - left) / row.width, (bottom - top) / row.height]);
    part(".picture").classList.add("mapped");
    canvas.setAttribute("aria-label", `Map: likeliest AI-generated ${place(row.map, p)}; p from ${Math.min(...p).toFixed(3)} to ${Math.max(...p).toFixed(3)}`);
  }

  function place({ rows, columns }, p) {
    const at = p.indexOf(Math.max(...p)), third = (k, count) => Math.min(2, Math.floor(3 * (k + 0.5) / count));
    const row = third(Math.floor(at / columns), rows), column = third(at % columns, columns);
    if (row === 1 && column === 1) return "in the middle";
    return `${["at the top", "in the middle", "at the bottom"][row]}${["on the left", "", "on the right"][column].replace(/^(?=.)/, " ")}`;
  }

  function shrunk(bitmap, side) {
    const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height)), canvas = marking.element("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // what is see-through lies on white, as the detector sees it
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  return { made, show, shrunk };
})();
