/** What whoever runs the service wants to know, asked for while it is looked at. */

import { showCode } from "./page/code-dialog.js";
import { byId, fill, icon, make } from "./page/element.js";
import { state, update, watch } from "./page/state.js";
import { clockOf, timeOfDay } from "./page/times.js";
import { requestJson, sentenceOf } from "./service/requests.js";

/** @typedef {import("./page/element.js").Child} Child */
/** @typedef {{p50: number, p95: number, max: number}} Spread */
/** @typedef {Record<string, any>} Status  As `/status` answers. */

const EVERY_SECONDS = 5;

const page = byId("operators", HTMLElement);
const figures = byId("operators-figures", HTMLElement);
let next = 0;

export function showOperators() {
  const follow = () => update({ view: window.location.hash === "#operators" ? "operators" : "studio" });
  window.addEventListener("hashchange", follow);
  watch(
    (now) => now.view,
    (view) => {
      const isOperators = view === "operators";
      byId("studio", HTMLElement).hidden = isOperators;
      page.hidden = !isOperators;
      byId("go-operators", HTMLElement).hidden = isOperators;
      byId("go-studio", HTMLElement).hidden = !isOperators;
    },
  );
  watch((now) => now.view === "operators" && (now.access === "open" || now.access === "given"), poll);
  follow();
}

/** @param {boolean} isLooking */
function poll(isLooking) {
  window.clearTimeout(next);
  if (isLooking) void look();
}

async function look() {
  try {
    show(await requestJson("status"));
  } catch (error) {
    fill(figures, make("p", { class: "wrong" }, sentenceOf(error)));
  }
  if (state.view === "operators") next = window.setTimeout(() => void look(), EVERY_SECONDS * 1000);
}

/** @param {Status} status */
function show(status) {
  const code = make(
    "button",
    {
      type: "button",
      class: "code",
      "aria-label": "Status: the code for it",
      onclick: () => showCode("status"),
    },
    icon("code"),
  );
  const verdict = status.status === "ok" ? "All is well" : "Something is not as it should be";
  byId("operators-verdict", HTMLElement).dataset.light = status.status === "ok" ? "on" : "wait";
  fill(
    byId("operators-verdict", HTMLElement),
    verdict,
    make("span", { class: "facts" }, ` at ${timeOfDay(status.at)}`),
  );
  fill(byId("operators-code", HTMLElement), code);
  fill(
    figures,
    group(
      "Queues",
      Object.entries(status.queues).map(([name, queue]) => queueRow(name, queue)),
    ),
    group("Worker and sweep", [...workerRows(status), ...sweepRows(status.sweep)]),
    group("Jobs of the last hour", jobRows(status.jobs)),
    group("Waits and speeds", spreadRows(status.jobs)),
    group("Dependencies", reachRows(status.unreachable, status.full)),
    group(
      "Versions",
      Object.entries(status.versions).map(([name, version]) => row(name, String(version))),
    ),
  );
}

/**
 * @param {string} title
 * @param {HTMLElement[]} rows
 */
function group(title, rows) {
  return make("section", { class: "figures" }, make("h2", {}, title), make("dl", {}, ...rows));
}

/**
 * @param {string} name
 * @param {string} value
 * @param {"good" | "warn" | ""} [level]
 */
function row(name, value, level = "") {
  return make("div", { data: { level } }, make("dt", {}, name), make("dd", {}, value));
}

/**
 * @param {string} name
 * @param {{waiting: number, taken: number} | null} queue
 */
function queueRow(name, queue) {
  if (!queue) return row(name, "no answer", "warn");
  const isBad = name === "dead letters" && queue.waiting > 0;
  return row(name, `${queue.waiting} waiting, ${queue.taken} taken`, isBad ? "warn" : "");
}

/** @param {Status} status */
function workerRows({ worker, engine_start: start, jobs }) {
  const last = jobs?.last_ended_at;
  return [
    row("worker", worker ?? "not asked", worker === "ready" || worker === null ? "" : "warn"),
    ...(start?.error ? [row("engine", start.error, "warn")] : []),
    row("last job ended", last ? timeOfDay(last) : "none in an hour"),
  ];
}

/** @param {Status | null} sweep */
function sweepRows(sweep) {
  if (!sweep) return [row("last sweep", "none yet", "warn")];
  const went = Object.values(sweep.swept).reduce((sum, count) => sum + count, 0);
  return [
    row("last sweep", timeOfDay(sweep.last_at)),
    row("its lag", clockOf(sweep.lag_seconds), sweep.lag_seconds > 0 ? "warn" : ""),
    row("it deleted or ended", String(went)),
  ];
}

/** @param {Status | null} jobs */
function jobRows(jobs) {
  if (!jobs) return [row("jobs", "the storage does not answer", "warn")];
  const outcomes = Object.entries(jobs.outcomes).map(([outcome, count]) =>
    row(
      outcome.replaceAll("_", " "),
      String(count),
      outcome === "succeeded" || outcome === "cancelled" ? "" : "warn",
    ),
  );
  return [
    row("made", String(jobs.made)),
    row("not ended", String(jobs.open)),
    ...outcomes,
    row("speech", `${jobs.audio_seconds.toFixed(1)} s`),
  ];
}

/** @param {Status | null} jobs */
function spreadRows(jobs) {
  return [
    spreadRow("wait", jobs?.wait_seconds, " s"),
    spreadRow("synthesis", jobs?.synthesis_seconds, " s"),
    spreadRow("speed", jobs?.speed, " × real time"),
  ];
}

/**
 * @param {string} name
 * @param {Spread | null | undefined} spread
 * @param {string} unit
 */
function spreadRow(name, spread, unit) {
  if (!spread) return row(name, "–");
  return row(name, `${short(spread.p50)}${unit}, p95 ${short(spread.p95)}, most ${short(spread.max)}`);
}

/** @param {number} value */
function short(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(2);
}

/**
 * @param {string[]} unreachable
 * @param {string[]} full
 */
function reachRows(unreachable, full) {
  const faults = [
    ...unreachable.map((name) => row(name, "no answer", "warn")),
    ...full.map((name) => row(name, "no space left", "warn")),
  ];
  return faults.length > 0 ? faults : [row("storage and queues", "all answer", "good")];
}
