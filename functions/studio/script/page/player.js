/** The one player: at most one recording, take or sample is heard at a time. */

import { fill, icon, make } from "./element.js";
import { state, update, watch } from "./state.js";
import { text } from "./text.js";

/** @typedef {{id: string, pause: () => void}} Sound */

/** @type {Sound | null} */
let current = null;

export function showPlayer() {
  watch(
    (now) => now.playing,
    () => {
      for (const button of document.querySelectorAll("button[data-sound]"))
        show(/** @type {HTMLButtonElement} */ (button));
    },
  );
}

/**
 * A sound is heard from now on. The one before is paused.
 *
 * @param {Sound} sound
 */
export function began(sound) {
  if (current && current.id !== sound.id) current.pause();
  current = sound;
  update({ playing: sound.id });
}

/**
 * A sound is not heard any more.
 *
 * @param {string} id
 */
export function ended(id) {
  if (current?.id !== id) return;
  current = null;
  update({ playing: null });
}

/** Pause whatever is heard. */
export function pause() {
  current?.pause();
}

/**
 * @param {string} id  The sound.
 * @param {string} name  The sound in labels, such as `take 3`.
 * @param {() => void} play
 * @returns {HTMLButtonElement} A button that plays or pauses the sound.
 */
export function playButton(id, name, play) {
  const press = () => (state.playing === id ? pause() : play());
  const button = make("button", { type: "button", class: "play", data: { sound: id, name }, onclick: press });
  show(button);
  return button;
}

/** @param {HTMLButtonElement} button */
function show(button) {
  const { sound, name = "" } = button.dataset;
  const isPlaying = state.playing === sound;
  fill(button, icon(isPlaying ? "pause" : "play"));
  button.setAttribute("aria-label", text(isPlaying ? "player.pause" : "player.play", { name }));
}
