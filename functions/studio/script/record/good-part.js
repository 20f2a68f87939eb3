/** Selects a part of a long recording that suits as a reference. */

import { framesOf, levels, percentile, secondsOf } from "./levels.js";

const SPEECH_BELOW_LOUD_DB = 20;
const PAUSE_SECONDS = 0.2;

/**
 * Find the part with the most speech that starts and ends in a pause.
 *
 * @param {Float32Array} samples  Mono.
 * @param {number} rate  Hz.
 * @param {number} seconds  The maximum length.
 * @returns {{start: number, end: number}} Seconds.
 */
export function goodPart(samples, rate, seconds) {
  const frames = levels(samples, rate);
  const threshold = percentile(frames, 0.9) - SPEECH_BELOW_LOUD_DB;
  const isSpeech = frames.map((level) => level > threshold);
  const pauses = pausesOf(isSpeech);
  const spoken = [0]; // frames of speech before each frame
  for (const speech of isSpeech) spoken.push((spoken.at(-1) ?? 0) + Number(speech));
  let best = { start: 0, end: Math.min(framesOf(seconds), frames.length), speech: -1 };
  for (const start of pauses) {
    const end = pauses.findLast((pause) => pause > start && pause - start <= framesOf(seconds));
    if (end === undefined) continue;
    const speech = (spoken[end] ?? 0) - (spoken[start] ?? 0);
    if (speech > best.speech) best = { start, end, speech };
  }
  return { start: secondsOf(best.start), end: secondsOf(best.end) };
}

/**
 * @param {boolean[]} isSpeech  Of each frame.
 * @returns {number[]} The frames in the middle of each pause.
 */
function pausesOf(isSpeech) {
  const found = [];
  let began = 0;
  for (let i = 0; i <= isSpeech.length; i++) {
    if (i < isSpeech.length && !isSpeech[i]) continue;
    if (i - began >= framesOf(PAUSE_SECONDS)) found.push(Math.floor((began + i) / 2));
    began = i + 1;
  }
  return found;
}
