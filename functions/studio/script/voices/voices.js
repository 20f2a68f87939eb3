/** The requests about saved voices. */

import { state, update } from "../page/state.js";
import { requestJson } from "../service/requests.js";

/** @typedef {import("../page/state.js").SavedVoice} SavedVoice */

/** Read all voices, the newest first. */
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

/**
 * @param {File} bundle  As `GET /voices/{id}/export` returns it.
 * @returns {Promise<SavedVoice>}
 */
export async function importVoice(bundle) {
  const form = new FormData();
  form.set("bundle", bundle);
  const voice = await requestJson("voices/import", { method: "POST", form });
  await loadVoices();
  return voice;
}
