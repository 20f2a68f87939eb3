/** The saved voices, as the service has them. */

import { state, update } from "../page/state.js";
import { requestJson } from "../service/requests.js";

/** @typedef {import("../page/state.js").SavedVoice} SavedVoice */

/** Read them all anew. */
export async function loadVoices() {
  /** @type {SavedVoice[]} */
  const voices = [];
  let after = "";
  do {
    const page = await requestJson(`voices?limit=1000&after=${encodeURIComponent(after)}`);
    voices.push(...page.voices);
    after = page.next ?? "";
  } while (after);
  voices.sort((a, b) => b.created_at.localeCompare(a.created_at));
  update({ voices });
}

/**
 * @param {SavedVoice} voice
 * @param {{name: string, description: string}} json
 */
export async function renameVoice(voice, json) {
  const renamed = await requestJson(`voices/${voice.voice_id}`, { method: "PATCH", json });
  if (state.reference?.kind === "voice" && state.reference.voice.voice_id === voice.voice_id) {
    update({ reference: { kind: "voice", voice: renamed } });
  }
  await loadVoices();
}
