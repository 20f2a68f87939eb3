/** Plays the recordings of saved voices. */

import { make } from "../page/element.js";
import { showError } from "../page/notice.js";
import { began, ended, playButton } from "../page/player.js";
import { text } from "../page/text.js";
import { timecode } from "../page/times.js";
import { request } from "../service/requests.js";

/** @typedef {import("../page/state.js").SavedVoice} SavedVoice */

const audio = new Audio();
let loaded = "";

for (const event of ["ended", "pause"]) audio.addEventListener(event, () => ended(loaded));
audio.addEventListener("timeupdate", () => {
  for (const shown of document.querySelectorAll(`[data-elapsed="${CSS.escape(loaded)}"]`))
    shown.textContent = `${timecode(audio.currentTime)} / `;
});
audio.addEventListener("playing", () => began({ id: loaded, pause: () => audio.pause() }));

/**
 * @param {SavedVoice} voice
 * @returns {HTMLButtonElement}
 */
export function sampleButton({ voice_id: id, name }) {
  return playButton(`voice ${id}`, text("player.sample", { name }), () => void play(id).catch(showError));
}

/**
 * @param {SavedVoice} voice
 * @returns {HTMLElement} The position while the sample is played, and the length.
 */
export function sampleTime({ voice_id: id, duration_seconds: seconds }) {
  const elapsed = make("span", { data: { elapsed: `voice ${id}` } });
  return make("span", {}, elapsed, timecode(seconds ?? 0));
}

/** @param {string} voiceId */
async function play(voiceId) {
  const id = `voice ${voiceId}`;
  if (loaded !== id) {
    const sample = await (await request(`voices/${voiceId}/sample`)).blob();
    audio.pause();
    ended(loaded);
    URL.revokeObjectURL(audio.src);
    loaded = id;
    audio.src = URL.createObjectURL(sample);
  }
  await audio.play();
}
