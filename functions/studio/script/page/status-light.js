/** The light in the bar: whether the service and its voice engine are available. */

import { Problem, requestJson } from "../service/requests.js";
import { byId } from "./element.js";
import { state, update, watch } from "./state.js";
import { text } from "./text.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").EngineStart} EngineStart */
/** @typedef {import("./text.js").TextKey} TextKey */

const LOOK_SECONDS = 15;
const STARTING_LOOK_SECONDS = 3;

/** @type {Record<string, [string, TextKey]>} */
const WORKERS = {
  ready: ["on", "status.ready"],
  starting: ["wait", "status.starting"],
  draining: ["wait", "status.stopping"],
  unreachable: ["wait", "status.offline"],
  full: ["wait", "status.full"],
};

export function showStatusLight() {
  const element = byId("status-light", HTMLElement);
  watch(
    (now) => JSON.stringify(statusOf(now)), // a string, because equal arrays are different objects
    (now) => {
      const [light, sentence] = /** @type {[string, string]} */ (JSON.parse(now));
      element.dataset.light = light;
      byId("status-text", HTMLElement).textContent = sentence;
    },
  );
  void look();
}

/**
 * @param {State} now
 * @returns {[string, string]}
 */
function statusOf({ access, connection, worker, engineStart }) {
  if (access === "wanted") return ["off", text("key.needed")];
  if (connection === "lost") return ["off", text("status.lost")];
  if (connection === "connecting") return ["off", text("status.connecting")];
  if (worker !== "ready" && engineStart) return ["wait", startOf(engineStart)];
  const [light, key] = WORKERS[worker ?? "ready"] ?? ["on", "status.ready"];
  return [light, text(key)];
}

/**
 * @param {EngineStart} start
 * @returns {string}
 */
function startOf({ phase, bytes = 0, total_bytes: total, remaining_seconds: remaining, error }) {
  if (error) return text("status.failed");
  if (phase === "loading" || !total) return text("status.loading");
  const progress = { percent: Math.floor((100 * bytes) / total), size: sizeOf(total) };
  if (remaining === undefined) return text("status.downloading", progress);
  const minutes = Math.ceil(remaining / 60);
  const left = minutes > 1 ? `${minutes} min` : `${remaining} s`;
  return text("status.downloading_left", { ...progress, left });
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
    update({ worker: worker ?? null, engine: engine ?? state.engine, engineStart: engineStart ?? null });
  } catch (error) {
    // The socket reports an outage of the service itself.
    const isFull = error instanceof Problem && error.code === "storage_full";
    update({ worker: isFull ? "full" : null });
  }
  const seconds = state.worker === "ready" || state.worker === null ? LOOK_SECONDS : STARTING_LOOK_SECONDS;
  window.setTimeout(() => void look(), seconds * 1000);
}
