/** The state of a take, in a sentence. */

import { state } from "../page/state.js";
import { text } from "../page/text.js";
import { clockOf } from "../page/times.js";

/** @typedef {import("../page/state.js").Take} Take */

// From no worker to the first audio, measured in docs/scaling.md.
const GPU_START_SECONDS = 330;
const PATIENCE_SECONDS = 20;

/** @type {Record<Take["status"], (take: Take) => string>} */
const SENTENCES = {
  sending: () => text("take.sending"),
  queued: waiting,
  speaking: (take) =>
    take.heard ? text("take.speaking", { seconds: take.heard.toFixed(1) }) : text("take.started"),
  fetching: () => text("take.fetching"),
  ready: () => "",
  failed: (take) => take.error ?? text("take.failed"),
  cancelled: () => text("take.cancelled"),
  expired: () => text("take.expired"),
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
  if (state.worker === "unreachable") return text("take.offline");
  if (state.worker === "starting") return text("take.engine_starting");
  if (ahead) return text("take.ahead", { count: ahead });
  if (waited < PATIENCE_SECONDS || state.worker === "ready") return text("take.next");
  return text("take.gpu_starting", { minutes: Math.max(1, Math.ceil((GPU_START_SECONDS - waited) / 60)) });
}

/**
 * @param {Take} take
 * @returns {string} How long the service keeps it, or that only this browser has it.
 */
export function keptAs({ status, audio, expiresAt }) {
  if (status !== "ready" || !expiresAt) return "";
  const left = (expiresAt - Date.now()) / 1000;
  if (left <= 0) return text("take.local");
  return audio ? "" : text("take.expires", { time: clockOf(left) });
}
