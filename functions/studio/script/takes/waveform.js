/** A waveform with a cursor, drawn and played by wavesurfer.js. */

import WaveSurfer from "../../vendor/wavesurfer.esm.js";

// The content security policy contains the hash of the style with this height.
const HEIGHT = 56;
const BARS = 1200;

/**
 * @typedef {object} Playable
 * @property {string} url
 * @property {Float32Array | null} samples  Null: only the cursor is drawn.
 * @property {number} seconds
 */

/** @type {Set<() => void>} Functions that set the colours of the waveforms that are shown. */
const painters = new Set();
const paintAll = () => {
  for (const paint of painters) paint();
};
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintAll);
document.addEventListener("theme-changed", paintAll);

/**
 * @param {HTMLElement} container
 * @param {Playable} playable
 * @returns {WaveSurfer}
 */
export function showWaveform(container, { url, samples, seconds }) {
  const audio = new Audio();
  audio.src = url;
  const waveform = WaveSurfer.create({
    container,
    media: audio,
    height: HEIGHT,
    peaks: [samples ? peaksOf(samples) : [0, 0]],
    duration: seconds,
    normalize: true,
    barWidth: 2,
    barGap: 2,
    barRadius: 1,
    barMinHeight: 2,
    cursorWidth: 2,
    ...coloursOf(container),
  });
  const paint = () => waveform.setOptions(coloursOf(container));
  painters.add(paint);
  waveform.on("destroy", () => painters.delete(paint));
  return waveform;
}

/** @param {HTMLElement} container */
function coloursOf(container) {
  const style = getComputedStyle(container);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  return {
    waveColor: colour("--wave"),
    progressColor: colour("--wave-played"),
    cursorColor: colour("--signal"),
  };
}

/**
 * @param {Float32Array} samples
 * @returns {number[]} The peak of each bar.
 */
export function peaksOf(samples) {
  const size = Math.max(1, Math.ceil(samples.length / BARS));
  const peaks = [];
  for (let start = 0; start < samples.length; start += size) {
    let most = 0;
    const end = Math.min(start + size, samples.length);
    for (let i = start; i < end; i++) most = Math.max(most, Math.abs(samples[i] ?? 0));
    peaks.push(most);
  }
  return peaks;
}
