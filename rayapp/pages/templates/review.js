"use strict";

// Cards to work through. Only those in sight are in the document; marks stay in the browser.
const review = (() => {
  const root = document.currentScript.closest(".review");
  const find = (selector) => root.querySelector(selector);
  const grid = find(".cards"), large = find("dialog"), sheet = find(".sheet");
  const wanted = Number(root.dataset.count), key = "review:" + root.dataset.key;
  const GAP = 12, LEAST = 190, LEAST_PHONE = 150, SPARE_ROWS = 2;
  const { element } = marking;
  const cards = [], drawn = new Map();
  let shown = [], current = 0, columns = 1, width = 0, height = 0, withMap = false, zoom = 0, looked = 0;
  let marks = {};
  try { marks = JSON.parse(localStorage.getItem(key)) ?? {}; } catch { /* kept in memory alone */ }

  // A file that was replaced since is another image, whatever its path.
  const keyOf = (card) => (card.version ? `${card.path}\n${card.version}` : card.path);
  const markOf = (card) => marks[keyOf(card)];
  const control = (name) => find(`[name="${name}"]`);

  // --- which cards, in which order

  function filtered() {
    const value = (name) => control(name).value;
    const part = value("path").toLowerCase().trim();
    const found = cards.filter((card) =>
      (!value("group") || card.group === value("group"))
      && (!value("verdict") || card.verdict === value("verdict"))
      && (!value("declared") || card.declared === value("declared"))
      && (!value("marked") || (markOf(card) ?? "none") === value("marked"))
      && (!part || card.path.toLowerCase().includes(part)));
    const by = {
      high: (a, b) => b.p - a.p, low: (a, b) => a.p - b.p,
      spread: (a, b) => (b.spread ?? -1) - (a.spread ?? -1), apart: (a, b) => (b.apart ?? -1) - (a.apart ?? -1),
      path: (a, b) => (a.path < b.path ? -1 : 1),
    }[value("sort")];
    return by ? found.sort(by) : found;
  }

  function choices(name) {
    const select = control(name), before = select.value, counts = new Map();
    for (const card of cards) if (card[name]) counts.set(card[name], (counts.get(card[name]) ?? 0) + 1);
    select.replaceChildren(new Option("all", ""),
      ...[...counts].map(([word, count]) => new Option(`${word} (${count.toLocaleString("en")})`, word)));
    select.value = counts.has(before) ? before : "";
    return counts.size;
  }

  function refresh() {
    const before = shown[current];
    shown = filtered();
    current = Math.max(0, shown.indexOf(before));
    for (const item of drawn.values()) item.remove();
    drawn.clear();
    const all = cards.length < wanted ? `${wanted.toLocaleString("en")}, still being read` : cards.length.toLocaleString("en");
    find(".shown").textContent = `${shown.length.toLocaleString("en")} of ${all} images.`;
    draw();
  }

  // --- the grid

  function measure() {
    width = grid.clientWidth;
    columns = Math.max(2, Math.floor((width + GAP) / ((width < 500 ? LEAST_PHONE : LEAST) + GAP)));
    const side = (width - GAP * (columns - 1)) / columns;
    height = side + (cards.some((card) => card.lines) ? 92 : 58); // the words below the picture
    grid.style.height = Math.max(0, Math.ceil(shown.length / columns) * (height + GAP) - GAP) + "px";
    return side;
  }

  function draw() {
    const side = measure(), top = -grid.getBoundingClientRect().top;
    const row = (y) => Math.floor(y / (height + GAP));
    const first = Math.max(0, row(top) - SPARE_ROWS) * columns;
    const last = Math.min(shown.length, (row(top + innerHeight) + 1 + SPARE_ROWS) * columns);
    for (const [at, item] of drawn) {
      if (at < first || at >= last) { item.remove(); drawn.delete(at); }
    }
    for (let at = first; at < last; at++) {
      const item = drawn.get(at) ?? made(at);
      const x = (at % columns) * (side + GAP), y = Math.floor(at / columns) * (height + GAP);
      item.style.cssText = `width:${side}px;height:${height}px;transform:translate(${x}px,${y}px)`;
      if (!drawn.has(at)) { drawn.set(at, item); insert(at, item); }
    }
  }

  // In the order of the cards, which is that in which they are read out.
  function insert(at, item) {
    const next = [...grid.children].find((other) => Number(other.dataset.at) > at);
    grid.insertBefore(item, next ?? null);
  }

  function made(at) {
    const card = shown[at], item = element("div", "item " + (card.tone ?? "plain"));
    Object.assign(item.dataset, { at, path: card.path });
    item.tabIndex = at === current ? 0 : -1;
    item.setAttribute("role", "listitem");
    item.setAttribute("aria-setsize", shown.length);
    item.setAttribute("aria-posinset", at + 1);
    const frame = element("div", "frame whole"), image = element("img");
    image.src = card.thumbnail;
    image.alt = "";
    frame.append(image);
    if (withMap && card.map) frame.append(heat(card, element("canvas"), true));
    else if (card.boxes) frame.append(overlay(card));
    frame.append(element("span", "mark", card.verdict));
    const words = element("div", "words"), head = element("span", "head");
    head.append(element("b", "", "p = " + card.p.toFixed(3)), element("span", "", card.group));
    words.append(head, element("span", "line", (card.lines ?? [""])[0]));
    const name = element("span", "name", card.path.split("/").pop());
    name.title = card.path;
    words.append(name);
    item.append(frame, words);
    marked(item, card);
    return item;
  }

  function marked(item, card) {
    item.querySelector(".chosen")?.remove();
    const mark = markOf(card);
    if (mark) item.querySelector(".frame").append(element("span", "chosen", mark));
    item.setAttribute("aria-label", [card.path, card.verdict, "probability " + card.p.toFixed(3),
      ...(card.lines ?? []), mark ? "marked " + mark : "not marked"].join(", "));
  }

  function overlay(card) {
    const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 " + card.size.join(" "));
    svg.setAttribute("aria-hidden", "true");
    for (const [kind, boxes] of [["dim", card.dimmed], ["box", card.boxes]]) {
      for (const box of boxes) {
        const drawing = document.createElementNS(space, "rect");
        drawing.setAttribute("class", kind);
        ["x", "y", "width", "height"].forEach((side, k) => drawing.setAttribute(side, box[k]));
        svg.append(drawing);
      }
    }
    return svg;
  }

  function heat(card, canvas, inSquare) {
    const { num_rows, num_columns, probabilities, box } = card.map;
    marking.heat(canvas, num_columns, num_rows, probabilities);
    let [left, top, wide, high] = box;
    if (inSquare && card.size) { // the picture does not fill its square frame
      const [w, h] = card.size, side = Math.max(w, h);
      left = (left * w + (side - w) / 2) / side; wide = wide * w / side;
      top = (top * h + (side - h) / 2) / side; high = high * h / side;
    }
    marking.lay(canvas, [left, top, wide, high]);
    return canvas;
  }

  // --- moving and marking

  function go(to) {
    if (!shown.length) return;
    const before = drawn.get(current);
    if (before) before.tabIndex = -1;
    current = Math.min(Math.max(to, 0), shown.length - 1);
    const y = grid.getBoundingClientRect().top + Math.floor(current / columns) * (height + GAP);
    const over = Math.max(0, y + height + 80 - innerHeight), above = Math.min(0, y - 60);
    scrollBy({ top: above || over, behavior: "instant" }); // only what is in sight can be focused
    draw();
    const item = drawn.get(current);
    if (item) item.tabIndex = 0;
    if (large.open) open();
    else item?.focus({ preventScroll: true });
  }

  function mark(as) {
    const card = shown[current];
    if (!card) return;
    if (as) marks[keyOf(card)] = as;
    else delete marks[keyOf(card)];
    keep();
    const item = drawn.get(current);
    if (item) marked(item, card);
    find(".said").textContent = `${card.path.split("/").pop()}: ${as ? "marked " + as : "no mark"}`;
    // A card that the filter no longer wants stays until the filter is used again: none jumps away.
    if (as && current < shown.length - 1) go(current + 1);
    else if (large.open) open();
  }

  function keep() {
    try { localStorage.setItem(key, JSON.stringify(marks)); } catch { /* kept in memory alone */ }
    const given = [...new Map(cards.map((card) => [keyOf(card), markOf(card)])).values()].filter(Boolean);
    find(".count").textContent = marking.counted(given);
    control("save").disabled = !given.some(marking.decides);
    for (const name of ["save-all", "clear"]) control(name).disabled = !given.length;
  }

  const list = () => marking.list(cards, markOf), table = () => marking.table(cards, markOf);

  // --- one card, large

  function open() {
    const card = shown[current], image = sheet.querySelector("img");
    if (!card) return;
    large.querySelector("h3").textContent = card.path;
    large.querySelector(".remarks").textContent = [`${card.verdict}, p = ${card.p.toFixed(3)} (${current + 1} of ${shown.length.toLocaleString("en")})`, ...(card.lines ?? [])].join("\n");
    large.querySelector("dl").replaceChildren(...Object.entries(card.facts ?? {}).map(([name, text]) => {
      const pair = element("div");
      pair.append(element("dt", "", name), element("dd", "", text));
      return pair;
    }));
    for (const button of large.querySelectorAll("[data-mark]")) {
      button.setAttribute("aria-pressed", markOf(card) === button.dataset.mark);
    }
    image.onload = fit;
    image.onerror = () => { // gone, or a format that this browser does not show
      image.onerror = null;
      image.src = card.thumbnail;
      large.querySelector(".remarks").textContent += "\nOnly the thumbnail can be shown here.";
    };
    image.alt = card.path;
    image.src = card.source || card.thumbnail;
    if (!large.open) { zoom = 0; large.showModal(); }
    fit();
  }

  function fit() {
    const card = shown[current], image = sheet.querySelector("img"), stage = sheet.parentNode;
    if (!card || !image.naturalWidth) return;
    const whole = Math.min(stage.clientWidth / image.naturalWidth, stage.clientHeight / image.naturalHeight);
    const scale = [card.source ? Math.min(whole, 1) : whole, 1 / devicePixelRatio, 4 / devicePixelRatio][zoom];
    image.style.width = image.naturalWidth * scale + "px";
    image.style.height = image.naturalHeight * scale + "px";
    sheet.classList.toggle("pixels", zoom > 0);
    control("zoom").textContent = ["Zoom to pixels", "Zoom 4×", "Whole picture"][zoom];
    const canvas = sheet.querySelector("canvas");
    canvas.hidden = true;
    if (withMap && card.map) heat(card, canvas, false);
    if (zoom) stage.scrollTo((stage.scrollWidth - stage.clientWidth) / 2, (stage.scrollHeight - stage.clientHeight) / 2);
  }

  function toggleMap() {
    withMap = !withMap;
    for (const name of ["map", "large-map"]) control(name).setAttribute("aria-pressed", withMap);
    refresh();
    if (large.open) fit();
  }

  function magnify() {
    if (!large.open) open();
    zoom = (zoom + 1) % 3;
    fit();
  }

  async function copyPath() {
    const path = shown[current]?.path ?? "";
    try { await navigator.clipboard.writeText(path); } catch { prompt("The path:", path); }
    find(".said").textContent = "path copied";
  }

  // --- what the reader does

  const actions = {
    ArrowRight: () => go(current + 1), ArrowLeft: () => go(current - 1),
    ArrowDown: () => go(current + (large.open ? 1 : columns)), ArrowUp: () => go(current - (large.open ? 1 : columns)),
    n: () => go(current + 1), p: () => go(current - 1), j: () => go(current + 1), k: () => go(current - 1),
    Home: () => go(0), End: () => go(shown.length - 1),
    s: () => mark("synthetic"), r: () => mark("real"), u: () => mark("unclear"), x: () => mark(""),
    Enter: open, z: magnify, m: () => find(".only-map").hidden || toggleMap(),
    "/": () => { if (!large.open) control("path").focus(); },
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input, select, textarea");
    if (field) {
      if (event.key === "Escape" || (event.key === "Enter" && field.name === "path")) go(0);
      return;
    }
    if (!(root.contains(event.target) || event.target === document.body)) return;
    if (event.target.closest("button, a") && ["Enter", " "].includes(event.key)) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  grid.addEventListener("click", (event) => {
    const item = event.target.closest(".item");
    if (!item) return;
    go(Number(item.dataset.at));
    if (event.target.closest(".frame")) open();
  });
  large.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const word = button.dataset.mark;
    if (word) mark(markOf(shown[current]) === word ? "" : word);
    else ({ zoom: magnify, "large-map": toggleMap, "copy-path": copyPath, previous: () => go(current - 1),
      next: () => go(current + 1), close: () => large.close() })[button.name]?.();
  });
  large.addEventListener("close", () => { sheet.querySelector("img").removeAttribute("src"); go(current); });
  find(".tools").addEventListener("input", () => { current = 0; refresh(); });
  control("map").addEventListener("click", toggleMap);
  control("save").addEventListener("click", () => marking.save("reviewed.csv", list()));
  control("save-all").addEventListener("click", () => marking.save("marks.csv", table()));
  control("clear").addEventListener("click", () => {
    if (!confirm("Drop all marks of this page?")) return;
    marks = {};
    keep();
    refresh();
  });
  let waits = false;
  const soon = () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => { waits = false; draw(); if (large.open) fit(); });
  };
  addEventListener("scroll", soon, { passive: true });
  addEventListener("resize", soon);

  return {
    take(script) {
      cards.push(...JSON.parse(script.textContent));
      script.remove(); // its text is no longer needed
      if (cards.length < wanted && cards.length < 2 * looked) return;
      looked = cards.length; // the first piece at once, then ever fewer times
      for (const name of ["group", "verdict"]) choices(name);
      find(".only-declared").hidden = choices("declared") === 0;
      for (const name of ["spread", "apart"]) { // nothing to sort by where nothing was measured
        const option = control("sort").querySelector(`[value="${name}"]`);
        option.hidden = option.disabled = !cards.some((card) => name in card);
      }
      const mapped = cards.some((card) => card.map);
      for (const part of root.querySelectorAll(".only-map")) part.hidden = !mapped;
      keep();
      refresh();
    },
    list, table,
  };
})();
