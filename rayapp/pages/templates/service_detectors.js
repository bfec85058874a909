"use strict";

// The detectors of the service: their cards, and which one judges, and how.
const serviceDetectors = (() => {
  const control = (name) => document.querySelector(`[name="${name}"]`);
  const HIDDEN = ["name", "default", "counted_as", "has_map", "has_stability"];
  let known = [];

  const chosen = () => known.find((one) => one.name === control("detector").value);

  // What is asked of each image; of what the detector cannot tell nothing.
  function options() {
    const one = chosen(), stability = control("stability");
    return { detector: one?.name ?? "", map: one?.has_map !== false, stability: stability.checked && !stability.disabled };
  }

  async function read() {
    const answer = await serviceQueue.detectors(), select = control("detector"), before = select.value;
    known = Array.isArray(answer) ? answer : [];
    select.replaceChildren(...known.map((one) => new Option(one.name, one.name, one.default, before ? one.name === before : one.default)));
    document.querySelector(".several").hidden = known.length < 2;
    show(typeof answer === "string" ? answer : "");
  }

  function show(problem) {
    const one = chosen();
    control("stability").disabled = one?.has_stability === false;
    document.querySelector(".about .which").textContent = one ? `: ${one.name}` : "";
    document.querySelector(".about dl").replaceChildren(...(one ? pairs(one) : [pair("detector", problem || "none")]));
  }

  function pair(name, text) {
    const row = marking.element("div");
    row.append(marking.element("dt", "", name.replaceAll("_", " ")), marking.element("dd", "", text));
    return row;
  }

  // The card as it comes, whatever it holds.
  function pairs(facts, before = "") {
    return Object.entries(facts).flatMap(([name, value]) => {
      if (value === null || value === "" || HIDDEN.includes(name)) return [];
      if (name === "display_name" && value === facts.name) return [];
      if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return [pair(before + name, value.join(", "))];
      if (typeof value === "object") return pairs(value, `${before}${name} `);
      return [pair(before + name, String(value))];
    });
  }

  control("detector").addEventListener("change", () => show(""));
  return { options, read };
})();
