/** How a take stands, in a sentence. */

import { state } from "../page/state.js";
import { clockOf } from "../page/times.js";

/** @typedef {import("../page/state.js").Take} Take */

// From no worker at all to the first words, as the scaling page measures it.
const GPU_START_SECONDS = 330;
const PATIENCE_SECONDS = 20;

/** @type {Record<Take["status"], (take: Take) => string>} */
const SENTENCES = {
  sending: () => "Sending…",
  queued: waiting,
  speaking: (take) => (take.heard ? `Speaking, ${take.heard.toFixed(1)} s so far` : "Speaking…"),
  fetching: () => "Fetching the audio…",
  ready: () => "",
  failed: (take) => take.error ?? "It failed.",
  cancelled: () => "Stopped.",
  expired: () =>
    "This take has expired. The service keeps takes for a short while only; “Again” speaks it once more.",
};

/**
 * @param {Take} take
 * @returns {string}
 */
export function sentenceFor(take) {
  return SENTENCES[take.status](take);
}

/**
 * @param {Take} take
 * @returns {string}
 */
function waiting({ ahead, askedAt }) {
  const waited = (Date.now() - askedAt) / 1000;
  if (state.worker === "unreachable") return "No worker answers. It is spoken as soon as one is back.";
  if (state.worker === "starting") return "The worker is starting. Yours is spoken as soon as it is ready.";
  if (ahead) return `In the queue, about ${ahead} before it.`;
  if (waited < PATIENCE_SECONDS || state.worker === "ready") return "Next in the queue.";
  const minutes = Math.max(1, Math.ceil((GPU_START_SECONDS - waited) / 60));
  return `The GPU is starting, about ${minutes} ${minutes === 1 ? "minute" : "minutes"}.`;
}

/**
 * @param {Take} take
 * @returns {string} How long it can still be had.
 */
export function timeLeft({ status, expiresAt }) {
  return status === "ready" && expiresAt ? `expires in ${clockOf((expiresAt - Date.now()) / 1000)}` : "";
}
