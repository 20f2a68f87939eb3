/** The light in the bar: whether the service is there, and whether somebody can speak. */

import { Problem, requestJson } from "../service/requests.js";
import { byId } from "./element.js";
import { update, watch } from "./state.js";

/** @typedef {import("./state.js").State} State */

const LOOK_SECONDS = 15;

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
function statusOf({ access, connection, worker }) {
  if (access === "wanted") return ["off", "A key is wanted"];
  if (connection === "lost") return ["off", "No connection; trying again"];
  if (connection === "connecting") return ["off", "Connecting"];
  return WORKERS[worker ?? "ready"] ?? ["on", "Ready"];
}

async function look() {
  try {
    const { worker, engine } = await requestJson("health");
    update({ worker: worker ?? null, engine: engine ?? null });
  } catch (error) {
    // Otherwise the socket tells whether the service itself is gone.
    const isFull = error instanceof Problem && error.code === "storage_full";
    update({ worker: isFull ? "full" : null });
  }
  window.setTimeout(() => void look(), LOOK_SECONDS * 1000);
}
