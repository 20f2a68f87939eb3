/** Keeps the takes in this browser, also after the service has deleted them. */

import { update, watch } from "../page/state.js";
import { allKept, keep } from "./database.js";

/** @typedef {import("../page/state.js").Take} Take */

/** Restore the takes, and keep them from now on. */
export async function storeTakes() {
  const takes = await allKept("takes").catch(() => []);
  takes.sort((a, b) => b.number - a.number);
  update({ takes: takes.map(restored) });
  /** @type {Map<string, Take>} */
  let stored = new Map(takes.map((take) => [take.id, take]));
  watch(
    (now) => now.takes,
    (now) => {
      const ids = new Set(now.map(({ id }) => id));
      for (const id of stored.keys()) if (!ids.has(id)) void keep("takes", id, undefined).catch(() => {});
      for (const take of now) if (isWorthWriting(take, stored.get(take.id))) write(take);
      stored = new Map(now.map((take) => [take.id, take]));
    },
  );
}

/**
 * @param {Take} take
 * @param {Take | undefined} before
 * @returns {boolean} Not for each chunk of audio.
 */
function isWorthWriting(take, before) {
  return before !== take && (before?.status !== take.status || before.jobId !== take.jobId);
}

/** @param {Take} take */
function write(take) {
  void keep("takes", take.id, { ...take, url: null }).catch(() => {});
}

/**
 * @param {Take} take
 * @returns {Take}
 */
function restored(take) {
  if (take.audio) return { ...take, url: URL.createObjectURL(take.audio) };
  // The audio is fetched again, if the job still has it.
  return take.status === "ready" ? { ...take, status: "fetching" } : take;
}
