"use strict";

// Sends images to the service, a few at a time; waits where it is busy, and asks for a token.
const serviceQueue = (() => {
  const LANES = 3, MOST_TRIES = 6, MOST_WAIT_S = 60, PATIENCE_MS = 300_000, TOKEN = "service:token";
  const ADVICE = {
    401: "Give a token that is good.", 403: "Open this page at the address that you were given for it.",
    404: "Reload this page: the service has changed.", 408: "Try again over a better connection.", 413: "Send a smaller image.",
    415: "Send an image file.", 422: "Send another file.", 429: "Try again in a while.", 503: "Try again in a while.",
  };
  const BUSY = [429, 503], NO_ENTRY = 401;
  const waiting = [], underWay = new Set();
  let page, pausedUntil = 0, timer, token = "", asking = false;
  try { token = sessionStorage.getItem(TOKEN) ?? ""; } catch { /* kept in memory alone */ }

  class Refused extends Error {
    constructor(status, line, waitS) {
      super(line);
      Object.assign(this, { status, waitS });
    }
  }

  // One line that says what is wrong and what to do; the service's own words where it gives any.
  async function refusal(answer) {
    let words = "";
    try {
      const { error, detail } = await answer.json();
      words = error ?? (typeof detail === "string" ? detail : "");
    } catch { /* not from the service itself */ }
    const said = words || (answer.status >= 500 ? `The service failed (${answer.status})` : `The service refused this (${answer.status})`);
    const advice = ADVICE[answer.status] ?? "Try again; if it fails again, tell whoever runs the service.";
    return new Refused(answer.status, `${marking.sentence(said)} ${advice}`, seconds(answer.headers.get("Retry-After")));
  }

  // Retry-After is a number of seconds or a date.
  function seconds(text) {
    if (!text) return null;
    const wait = /^\d+$/.test(text.trim()) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
    return Number.isNaN(wait) ? null : Math.max(0, wait);
  }

  async function ask(path, request = {}, signal = undefined) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const late = AbortSignal.timeout(PATIENCE_MS);
    let answer;
    try {
      answer = await fetch(path, {
        ...request, headers, credentials: "omit", signal: signal ? AbortSignal.any([signal, late]) : late,
      });
      if (answer.ok) return await answer.json();
    } catch (problem) {
      if (problem.name === "AbortError") throw new Refused(0, "Stopped.");
      if (problem.name === "TimeoutError") throw new Refused(0, "No answer within five minutes. Try again later.");
      throw new Refused(0, problem instanceof SyntaxError
        ? "The answer cannot be read: this address may not be the service's. Ask whoever runs it."
        : "The service does not answer. See whether it runs and you are connected, then try again.");
    }
    throw await refusal(answer);
  }

  // --- images

  function send(entry, signal) {
    const body = new FormData(), options = new URLSearchParams({ map: entry.options.map ? "1" : "0", declared: "1" });
    body.append("images", entry.file, entry.file.name);
    if (entry.options.detector) options.set("detector", entry.options.detector);
    if (entry.options.stability) options.set("stability", "web");
    return ask(`v1/score?${options}`, { method: "POST", body }, signal);
  }

  async function judge(entry) {
    const stop = new AbortController(), run = { entry, stop };
    underWay.add(run);
    page.sending(entry);
    try {
      const answer = await send(entry, stop.signal);
      page.judged(entry, answer.detector, answer.images[0]);
    } catch (problem) {
      if (!(problem instanceof Refused)) page.failed(entry, "The answer is not as this page knows it. Reload the page.");
      else refused(entry, problem);
    }
    underWay.delete(run);
    pump();
  }

  function refused(entry, problem) {
    entry.tries = (entry.tries ?? 0) + 1;
    if (problem.status === NO_ENTRY) {
      waiting.unshift(entry);
      page.waiting(entry, "waits for a token");
      askForToken(token ? problem.message : "");
    } else if (BUSY.includes(problem.status) && entry.tries < MOST_TRIES && (problem.waitS ?? 0) <= MOST_WAIT_S) {
      const wait = problem.waitS ?? 2 ** entry.tries;
      pausedUntil = Math.max(pausedUntil, Date.now() + 1000 * wait);
      waiting.unshift(entry);
      page.waiting(entry, `The service is busy; it is asked again in ${Math.ceil(wait)} s`);
    } else {
      const later = BUSY.includes(problem.status) && problem.waitS ? ` It asks to wait ${Math.ceil(problem.waitS)} s.` : "";
      page.failed(entry, problem.message + later);
    }
  }

  function pump() {
    clearTimeout(timer);
    const wait = pausedUntil - Date.now();
    if (wait > 0) timer = setTimeout(pump, wait + 10);
    while (wait <= 0 && !asking && waiting.length && underWay.size < LANES) judge(waiting.shift());
    page.changed(waiting.length + underWay.size);
  }

  function stop() {
    for (const entry of waiting.splice(0)) page.failed(entry, "Stopped.");
    for (const { stop: controller } of underWay) controller.abort();
    pump();
  }

  // --- the token

  function askForToken(why) {
    if (asking) return;
    asking = true;
    page.askForToken(why);
  }

  function answerToken(given) {
    asking = false;
    if (given !== null && !/^[\x21-\x7e]+$/.test(given)) { // no header can carry it
      askForToken("A token has no blanks and no special letters. Copy it whole.");
      return;
    }
    if (given === null) {
      for (const entry of waiting.splice(0)) page.failed(entry, "No token was given. Try again and give one.");
    } else {
      token = given;
      try { sessionStorage.setItem(TOKEN, token); } catch { /* kept in memory alone */ }
    }
    pump();
  }

  async function detectors() {
    try {
      return await ask("v1/detectors");
    } catch (problem) {
      if (problem.status === NO_ENTRY) askForToken(token ? problem.message : "");
      return problem.message;
    }
  }

  return {
    begin(listener) { page = listener; },
    add(entries) { waiting.push(...entries); pump(); },
    stop, answerToken, detectors,
  };
})();
