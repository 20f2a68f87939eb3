/** The light in the bar: whether the service is there, and whether somebody can speak. */

import { Problem, requestJson } from "../service/requests.js";
import { byId } from "./element.js";
import { state, update, watch } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").EngineStart} EngineStart */

const LOOK_SECONDS = 15;
const STARTING_LOOK_SECONDS = 3;

/** @type {Record<string, [string, string]>} */
const WORKERS = {
  ready: ["on", "Ready"],
  starting: ["wait", "The worker is starting"],
  draining: ["wait", "The worker is stopping"],
  unreachable: ["wait", "No worker answers; what you ask for waits"],
  full: ["wait", "The storage is full; nothing new can be stored"],
};

export function showStatusLight() {
  const element = byId("status-light", HTMLElement);
  watch(summary, (now) => {
    const [light, text] = /** @type {[string, string]} */ (JSON.parse(now));
    element.dataset.light = light;
    byId("status-text", HTMLElement).textContent = text;
  });
  void look();
}

/**
 * @param {State} now
 * @returns {string} Light and text, as JSON so that the same is the same.
 */
function summary(now) {
  return JSON.stringify(statusOf(now));
}

/**
 * @param {State} now
 * @returns {[string, string]}
 */
function statusOf({ access, connection, worker, engineStart }) {
  if (access === "wanted") return ["off", "A key is wanted"];
  if (connection === "lost") return ["off", "No connection; trying again"];
  if (connection === "connecting") return ["off", "Connecting"];
  if (worker === "starting" && engineStart) return ["wait", startOf(engineStart)];
  return WORKERS[worker ?? "ready"] ?? ["on", "Ready"];
}

/**
 * @param {EngineStart} start
 * @returns {string}
 */
function startOf({ phase, bytes = 0, total_bytes: total, remaining_seconds: remaining, error }) {
  if (error) return "The voice engine can't start";
  if (phase === "loading" || !total) return "Loading the voice engine";
  const percent = Math.floor((100 * bytes) / total);
  const minutes = Math.ceil((remaining ?? 0) / 60);
  const left =
    remaining === undefined ? "" : minutes > 1 ? `, ${minutes} minutes left` : `, ${remaining} s left`;
  return `Downloading the voice engine: ${percent} % of ${sizeOf(total)}${left}`;
}

/**
 * @param {number} bytes
 * @returns {string}
 */
function sizeOf(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

async function look() {
  try {
    const { worker, engine, engine_start: engineStart } = await requestJson("health");
    update({ worker: worker ?? null, engine: engine ?? null, engineStart: engineStart ?? null });
  } catch (error) {
    // Otherwise the socket tells whether the service itself is gone.
    const isFull = error instanceof Problem && error.code === "storage_full";
    update({ worker: isFull ? "full" : null });
  }
  const seconds = state.worker === "starting" ? STARTING_LOOK_SECONDS : LOOK_SECONDS;
  window.setTimeout(() => void look(), seconds * 1000);
}
