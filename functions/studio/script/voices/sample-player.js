/** Plays the recording that a saved voice was made from; one at a time. */

import { fill, icon } from "../page/element.js";
import { request } from "../service/requests.js";

const audio = new Audio();
/** @type {HTMLButtonElement | null} */
let pressed = null;

for (const event of ["ended", "pause"]) audio.addEventListener(event, () => show("play"));
audio.addEventListener("playing", () => show("pause"));

/**
 * Play a sample, or stop it when it is playing.
 *
 * @param {string} voiceId
 * @param {HTMLButtonElement} button
 * @returns {Promise<void>}
 */
export async function playSample(voiceId, button) {
  const isSame = pressed === button && !audio.paused;
  audio.pause();
  if (isSame) return;
  const sample = await (await request(`voices/${voiceId}/sample`)).blob();
  URL.revokeObjectURL(audio.src);
  pressed = button;
  audio.src = URL.createObjectURL(sample);
  await audio.play();
}

/** @param {string} picture */
function show(picture) {
  if (pressed) fill(pressed, icon(picture));
}
