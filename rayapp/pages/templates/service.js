"use strict";

// The page of the service: choosing images, what is said of each, marks, the session's history.
const service = (() => {
  const find = (selector) => document.querySelector(selector);
  const results = find(".results"), dialog = find("dialog.token");
  const control = (name) => find(`[name="${name}"]`);
  const HISTORY = "service:history", MARKS = "service:marks", SIDE = 1024, SMALL = 240;
  const entries = new Map(); // id → what was sent and what came back
  let marks = {}, nextId = 1, withMap = false, batch = [], pictures = Promise.resolve();

  // --- choosing

  const article = (entry) => results.querySelector(`[data-id="${entry.id}"]`);

  function show(entry) {
    const card = article(entry);
    if (card) serviceCard.show(card, entry, entry.row && marks[keyOf(entry)], withMap);
  }

  // Those just added stand first, in their order.
  function add(files) {
    const added = files.map(({ file, path, pasted }) => ({ id: nextId++, file, path, pasted, options: serviceDetectors.options() }));
    if (!added.length) return;
    const list = document.createDocumentFragment();
    for (const entry of added) {
      entries.set(entry.id, entry);
      list.append(serviceCard.made(entry));
      waiting(entry, "waits");
      pictures = pictures.then(() => draw(entry)); // one at a time: they can be large
    }
    results.prepend(list);
    batch.push(...added);
    say(added.length === 1 ? `${added[0].path}: sent` : `${added.length} images: sent`);
    serviceQueue.add(added);
  }

  async function walk(item, found) {
    if (item instanceof File) found.push({ file: item, path: item.name });
    else if (item.isFile) {
      const file = await new Promise((done, fail) => item.file(done, fail));
      if (!file.name.startsWith(".")) found.push({ file, path: item.fullPath.slice(1) });
    } else {
      const reader = item.createReader();
      for (let some = [true]; some.length;) {
        some = await new Promise((done, fail) => reader.readEntries(done, fail));
        for (const one of some) await walk(one, found);
      }
    }
  }

  // Of one folder the paths begin inside of it, as predict names them.
  async function dropped(transfer) {
    const items = [...transfer.items].filter((item) => item.kind === "file")
      .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
    const found = [], lone = items.length === 1 && items[0].isDirectory;
    try {
      for (const item of items) await walk(item, found);
    } catch { say("A folder could not be read. Choose its images instead."); }
    add(lone ? found.map((one) => ({ ...one, path: one.path.split("/").slice(1).join("/") })) : found);
    if (!found.length) say("No file was dropped. Save the picture first, then drop its file.");
  }

  function pasted(event) {
    const files = [...event.clipboardData.files];
    if (!files.length || dialog.open) return;
    event.preventDefault();
    const at = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    add(files.map((file, k) => ({ file, path: `pasted ${at}${k ? ` (${k + 1})` : ""}.${file.type.split("/")[1] ?? "png"}`, pasted: true })));
  }

  // --- pictures, kept small; the file itself is what is sent

  async function draw(entry) {
    try {
      const bitmap = await createImageBitmap(entry.file, { imageOrientation: "from-image" });
      const large = serviceCard.shrunk(bitmap, SIDE), small = serviceCard.shrunk(bitmap, SMALL);
      bitmap.close();
      entry.thumbnail = small.toDataURL("image/jpeg", 0.8);
      const blob = await new Promise((done) => large.toBlob(done, "image/jpeg", 0.9));
      entry.address = URL.createObjectURL(blob);
    } catch { entry.unseen = true; } // no image, or a format that this browser does not know
    if (!entries.has(entry.id)) return release(entry);
    show(entry);
    keep();
  }

  function release(entry) {
    if (entry.address) URL.revokeObjectURL(entry.address);
  }

  // --- what the queue tells

  function waiting(entry, note) {
    Object.assign(entry, { state: "waiting", note });
    show(entry);
  }

  function judged(entry, detector, row) {
    const failure = row.error;
    Object.assign(entry, failure ? { state: "failed", row: undefined, note: `Could not be judged: ${failure}` }
      : { state: "judged", row, detector, note: "" });
    if (!failure) dropTwins(entry);
    show(entry);
    keep();
  }

  // The same file under the same name and detector stands once: as it was judged last.
  function dropTwins(entry) {
    for (const other of [...entries.values()]) {
      if (other !== entry && other.row && other.path === entry.path && other.row.sha256 === entry.row.sha256
        && other.detector.hash === entry.detector.hash) remove(other);
    }
  }

  function remove(entry) {
    article(entry)?.parentNode.remove();
    entries.delete(entry.id);
    release(entry);
  }

  function failed(entry, note) {
    Object.assign(entry, { state: "failed", note, row: undefined });
    show(entry);
    keep();
  }

  function changed(numLeft) {
    control("stop").hidden = !numLeft;
    const all = [...entries.values()], words = new Map();
    for (const { row } of all) if (row) words.set(row.verdict, (words.get(row.verdict) ?? 0) + 1);
    const numFailed = all.filter((one) => one.state === "failed").length;
    const parts = [...words].map(([word, count]) => `${count} ${word}`).concat(numFailed ? [`${numFailed} not judged`] : []);
    rove();
    const total = `${all.length} ${all.length === 1 ? "image" : "images"}`;
    find(".progress").textContent = all.length
      ? `${total}${numLeft ? `, ${numLeft} under way` : ""}${parts.length ? `: ${parts.join(", ")}` : ""}.` : "None yet.";
    find(".tools").hidden = find(".keys").hidden = !all.length;
    control("again-all").hidden = numLeft > 0 || !all.some((one) => one.state === "failed" && one.file);
    if (numLeft || !batch.length) return;
    const [first, ...more] = batch.splice(0);
    say(more.length ? `Done. ${find(".progress").textContent}` : `${first.path}: ${first.row?.in_words ?? first.note}`);
  }

  let saying;
  function say(text) { // a moment later: what is said in between is not worth hearing
    clearTimeout(saying);
    saying = setTimeout(() => { find(".said").textContent = text; }, 300);
  }

  // --- marks

  const keyOf = ({ path, row }) => `${path}\0${row.sha256}`;

  function mark(entry, word) {
    if (!entry.row) return;
    if (word) marks[keyOf(entry)] = word;
    else delete marks[keyOf(entry)];
    for (const other of entries.values()) if (other.row) show(other);
    say(`${entry.path}: ${word ? `marked ${word}` : "no mark"}`);
    keep();
  }

  // As the gallery's cards are, so that the lists are the same.
  function cards() {
    return [...entries.values()].filter((one) => one.row).map((entry) => ({
      path: entry.path, verdict: entry.row.verdict, p: entry.row.probability, group: "page", declared: entry.row.declared,
      lines: entry.row.reasons, entry,
    }));
  }

  const markOf = ({ entry }) => marks[keyOf(entry)];

  // What a list can name by its path: nothing that was pasted, no path of two images; each once.
  function nameable() {
    const files = new Map(), once = new Map(), all = cards().filter((card) => !card.entry.pasted);
    for (const { path, entry } of all) files.set(path, (files.get(path) ?? new Set()).add(entry.row.sha256));
    for (const card of all) if (files.get(card.path).size === 1) once.set(card.path, card);
    return { named: [...once.values()], twice: all.filter((card) => markOf(card) && !once.has(card.path)) };
  }

  const list = () => marking.list(nameable().named, markOf);

  // Where all have a mark, the marks are no choice out of them: each stands for itself.
  function table() {
    const { named } = nameable(), whole = named.every(markOf) ? [named.length, named.length] : undefined;
    return marking.table(named.map((card) => ({ ...card, stands_for: whole })), markOf);
  }

  function countMarks() {
    const { named, twice } = nameable(), given = Object.values(marks);
    const lost = cards().some((card) => card.entry.pasted && markOf(card));
    const names = [...new Set(twice.map(({ path }) => path))];
    find(".count").textContent = [marking.counted(given),
      names.length ? `${names.join(", ")} names two images, so it is in no list.` : "",
      lost ? "What was pasted has no file, so it is in no list." : ""].filter(Boolean).join(" ");
    control("save").disabled = !list().length;
    control("save-all").disabled = !named.some(markOf);
  }

  // --- the session's history: of this tab, in this browser

  let keeping;
  function keep() {
    countMarks();
    clearTimeout(keeping);
    keeping = setTimeout(store, 300);
  }

  function store() {
    const all = [...entries.values()].filter((one) => ["judged", "failed"].includes(one.state))
      .map(({ path, pasted: isPasted, row, detector, note, state, thumbnail, unseen }) => ({ path, pasted: isPasted, row, detector, note, state, thumbnail, unseen }));
    const bare = () => all.map((one) => ({ ...one, thumbnail: undefined, row: one.row && { ...one.row, map: null } }));
    for (const kept of [() => all, bare, () => []]) { // what there is room for
      try {
        sessionStorage.setItem(HISTORY, JSON.stringify(kept()));
        sessionStorage.setItem(MARKS, JSON.stringify(marks));
        return;
      } catch { /* full, or forbidden: kept in memory alone */ }
    }
  }

  function restore() {
    try {
      marks = JSON.parse(sessionStorage.getItem(MARKS)) ?? {};
      for (const kept of JSON.parse(sessionStorage.getItem(HISTORY)) ?? []) {
        const entry = { ...kept, id: nextId++ };
        entries.set(entry.id, entry);
        results.append(serviceCard.made(entry));
        show(entry);
      }
    } catch { /* nothing kept */ }
    countMarks();
  }

  function clear() {
    if (Object.keys(marks).length && !confirm("Drop the history of this page, and all marks?")) return;
    serviceQueue.stop();
    for (const entry of [...entries.values()]) remove(entry);
    marks = {};
    keep();
    changed(0);
    say("The history is cleared.");
    control("choose").focus();
  }

  // --- what the reader does

  function toggleMap() {
    withMap = !withMap;
    control("map").setAttribute("aria-pressed", withMap);
    find(".map-legend").hidden = !withMap;
    for (const entry of entries.values()) show(entry);
  }

  function again(chosen) {
    const sent = chosen.filter((entry) => entry.file);
    for (const entry of sent) {
      Object.assign(entry, { options: serviceDetectors.options(), tries: 0, row: undefined });
      waiting(entry, "waits");
    }
    batch.push(...sent);
    serviceQueue.add(sent);
  }

  // Tab reaches one image and its buttons; arrows lead to the others.
  function rove() {
    const all = [...results.querySelectorAll(".result")], own = document.activeElement.closest(".result");
    const current = own ?? all.find((card) => card.tabIndex === 0) ?? all[0];
    for (const card of all) {
      for (const part of [card, ...card.querySelectorAll("button")]) part.tabIndex = card === current ? 0 : -1;
    }
  }

  function go(from, step) {
    const all = [...results.querySelectorAll(".result")];
    const to = step === "first" ? 0 : step === "last" ? all.length - 1 : all.indexOf(from) + step;
    all[Math.min(Math.max(to, 0), all.length - 1)]?.focus();
  }

  function pressed(event) {
    const card = event.target.closest(".result");
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    const entry = entries.get(Number(card.dataset.id)), word = marking.WORDS[event.key];
    const steps = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, n: 1, p: -1, Home: "first", End: "last" };
    if (word || event.key === "x") {
      mark(entry, word ?? "");
      if (word) go(card, 1);
    } else if (event.key in steps) go(card, steps[event.key]);
    else if (event.key === "m") toggleMap();
    else if (event.key === "z") card.classList.toggle("large");
    else return;
    event.preventDefault();
  }

  function clicked(event) {
    const card = event.target.closest(".result"), button = event.target.closest("button");
    if (!card) return;
    const entry = entries.get(Number(card.dataset.id));
    if (event.target.closest(".picture")) card.classList.toggle("large");
    else if (button?.name === "again") again([entry]);
    else if (button?.dataset.mark) mark(entry, button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.mark);
  }

  function askForToken(why) {
    find(".why").textContent = why || "Whoever runs the service gives it to you. It stays in this tab.";
    dialog.showModal();
    control("token").value = "";
    control("token").focus();
  }

  function answered(given) {
    dialog.close();
    serviceQueue.answerToken(given);
    if (given !== null && !dialog.open) serviceDetectors.read();
  }

  function listen() {
    control("choose").addEventListener("click", () => control("files").click());
    control("files").addEventListener("change", (event) => {
      add([...event.target.files].map((file) => ({ file, path: file.name })));
      event.target.value = ""; // so that the same file can be chosen again
    });
    addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
    addEventListener("drop", (event) => {
      event.preventDefault();
      document.body.classList.remove("over");
      dropped(event.dataTransfer);
    });
    addEventListener("paste", pasted);
    addEventListener("pagehide", store);
    results.addEventListener("keydown", pressed);
    results.addEventListener("focusin", rove);
    results.addEventListener("click", clicked);
    control("map").addEventListener("click", toggleMap);
    control("again-all").addEventListener("click", () => again([...entries.values()].filter((one) => one.state === "failed")));
    control("stop").addEventListener("click", serviceQueue.stop);
    control("save").addEventListener("click", () => marking.save("reviewed.csv", list()));
    control("save-all").addEventListener("click", () => marking.save("marks.csv", table()));
    control("clear").addEventListener("click", clear);
    dialog.querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); answered(control("token").value.trim()); });
    control("cancel").addEventListener("click", () => answered(null));
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); answered(null); });
  }

  const sending = (entry) => { Object.assign(entry, { state: "sending", note: "is being judged" }); show(entry); };
  serviceQueue.begin({ waiting, sending, judged, failed, changed, askForToken });
  listen();
  restore();
  changed(0);
  serviceDetectors.read();
  return { list, table };
})();
