/** The figures of the service for operators, polled while they are shown. */

import { byId, fill, make } from "./page/element.js";
import { state, watch } from "./page/state.js";
import { text } from "./page/text.js";
import { clockOf, timeOfDay } from "./page/times.js";
import { requestJson, sentenceOf } from "./service/requests.js";

/** @typedef {{p50: number, p95: number, max: number}} Spread */
/** @typedef {Record<string, any>} Status  The response of `GET /status`. */
/** @typedef {import("./page/text.js").TextKey} TextKey */

const EVERY_SECONDS = 5;

const figures = byId("operators-figures", HTMLElement);
let next = 0;

export function showOperators() {
  watch((now) => now.view === "operators" && (now.access === "open" || now.access === "given"), poll);
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
  const isGood = status.status === "ok";
  const verdict = byId("operators-verdict", HTMLElement);
  verdict.dataset.light = isGood ? "on" : "wait";
  fill(
    verdict,
    text(isGood ? "operators.good" : "operators.bad"),
    make("span", { class: "facts" }, ` · ${timeOfDay(status.at)}`),
  );
  fill(
    figures,
    group(
      "operators.queues",
      Object.entries(status.queues).map(([name, queue]) => queueRow(name, queue)),
    ),
    group("operators.worker_and_sweep", [...workerRows(status), ...sweepRows(status.sweep)]),
    group("operators.jobs", jobRows(status.jobs)),
    group("operators.speed_title", spreadRows(status.jobs)),
    group("operators.dependencies", reachRows(status.unreachable, status.full)),
    group(
      "operators.versions",
      Object.entries(status.versions).map(([name, version]) => row(name, String(version))),
    ),
  );
}

/**
 * @param {TextKey} title
 * @param {HTMLElement[]} rows
 */
function group(title, rows) {
  return make("section", { class: "figures" }, make("h2", {}, text(title)), make("dl", {}, ...rows));
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
  if (!queue) return row(name, text("operators.no_answer"), "warn");
  const isBad = name === "dead letters" && queue.waiting > 0;
  return row(name, text("operators.queue", { ...queue }), isBad ? "warn" : "");
}

/** @param {Status} status */
function workerRows({ worker, engine_start: start, jobs }) {
  const last = jobs?.last_ended_at;
  const isGood = worker === "ready" || worker === null;
  return [
    row(text("operators.worker"), worker ?? text("operators.not_checked"), isGood ? "" : "warn"),
    ...(start?.error ? [row(text("operators.engine"), start.error, "warn")] : []),
    row(text("operators.last_job"), last ? timeOfDay(last) : text("operators.no_job")),
  ];
}

/** @param {Status | null} sweep */
function sweepRows(sweep) {
  if (!sweep) return [row(text("operators.last_sweep"), text("operators.no_sweep"), "warn")];
  const count = Object.values(sweep.swept).reduce((sum, swept) => sum + swept, 0);
  return [
    row(text("operators.last_sweep"), timeOfDay(sweep.last_at)),
    row(text("operators.sweep_delay"), clockOf(sweep.lag_seconds), sweep.lag_seconds > 0 ? "warn" : ""),
    row(text("operators.cleaned_up"), String(count)),
  ];
}

/** @param {Status | null} jobs */
function jobRows(jobs) {
  if (!jobs) return [row(text("operators.jobs"), text("operators.no_answer"), "warn")];
  const outcomes = Object.entries(jobs.outcomes).map(([outcome, count]) =>
    row(
      outcome.replaceAll("_", " "),
      String(count),
      outcome === "succeeded" || outcome === "cancelled" ? "" : "warn",
    ),
  );
  return [
    row(text("operators.created"), String(jobs.made)),
    row(text("operators.in_progress"), String(jobs.open)),
    ...outcomes,
    row(text("operators.audio"), `${jobs.audio_seconds.toFixed(1)} s`),
  ];
}

/** @param {Status | null} jobs */
function spreadRows(jobs) {
  const [wait, synthesis, speed] = [jobs?.wait_seconds, jobs?.synthesis_seconds, jobs?.speed];
  const seconds = (/** @type {Spread | null | undefined} */ spread) =>
    spread
      ? text("operators.seconds", {
          median: short(spread.p50),
          p95: short(spread.p95),
          max: short(spread.max),
        })
      : "–";
  return [
    row(text("operators.wait"), seconds(wait)),
    row(text("operators.synthesis"), seconds(synthesis)),
    row(
      text("operators.speed"),
      speed ? text("operators.times", { median: short(speed.p50), slow: short(speed.p95) }) : "–",
    ),
  ];
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
    ...unreachable.map((name) => row(name, text("operators.no_answer"), "warn")),
    ...full.map((name) => row(name, text("operators.full"), "warn")),
  ];
  return faults.length > 0
    ? faults
    : [row(text("operators.storage_and_queues"), text("operators.available"), "good")];
}
