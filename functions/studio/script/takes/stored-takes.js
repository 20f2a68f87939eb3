/** The takes of this tab, kept so that a page that is loaded anew finds its jobs again. */

import { update, watch } from "../page/state.js";

/** @typedef {import("../page/state.js").Take} Take */

const KEPT_AS = "studio.takes";

/** Bring the takes back, and keep them from now on. */
export function storeTakes() {
  update({ takes: kept() });
  watch(
    (now) => now.takes,
    (takes) =>
      sessionStorage.setItem(
        KEPT_AS,
        JSON.stringify(takes.map((take) => ({ ...take, audio: null, url: null }))),
      ),
  );
}

/** @returns {Take[]} */
function kept() {
  /** @type {Take[]} */
  const takes = JSON.parse(sessionStorage.getItem(KEPT_AS) ?? "[]");
  // Whatever was ready has to be fetched again: how the job stands tells whether it can be.
  return takes.map((take) => (take.status === "ready" ? { ...take, status: "fetching" } : take));
}
