/** Problems of a recording and its transcript, found before the upload. */

import { text } from "../page/text.js";
import { framesOf, levels, percentile, secondsOf } from "./levels.js";

/** @typedef {import("../page/state.js").Finding} Finding */
/** @typedef {import("../page/state.js").Limits} Limits */
/** @typedef {import("../page/text.js").TextKey} TextKey */

const SHORT_SECONDS = 4;
const SILENT_DB = -55;
const QUIET_DB = -38;
const CLIPPED = 0.985;
const CLIPPED_SHARE = 0.0005;
const NOISY_DB = 18;
const ENDS_SECONDS = 0.15;

// Letters in a second of speech. Slow readers reach 7, fast ones 20.
const LETTERS_MIN = 4;
const LETTERS_MAX = 28;
// A character of these scripts takes as long as about three Latin letters.
const SYLLABLES = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/gu;
const LETTERS = /[\p{L}\p{N}]/gu;

/**
 * Check the part of a recording that will be sent.
 *
 * @param {Float32Array} samples  Mono.
 * @param {number} rate  Hz.
 * @param {Limits} limits
 * @param {string} transcript
 * @returns {Finding[]} At least one: without a problem, that the recording is good.
 */
export function checkRecording(samples, rate, limits, transcript) {
  const seconds = samples.length / rate;
  const frames = levels(samples, rate);
  const loud = percentile(frames, 0.9);
  const still = percentile(frames, 0.1);
  const stop =
    lengthProblem(seconds, limits) ?? (loud < SILENT_DB ? finding("stop", "finding.silent") : null);
  if (stop) return [stop];
  const speech = frames.filter((level) => level > Math.max(loud - NOISY_DB, SILENT_DB)).length;
  const warnings = [
    transcriptProblem(transcript, secondsOf(speech)),
    seconds < SHORT_SECONDS && finding("warn", "finding.short"),
    clippedShare(samples) > CLIPPED_SHARE && finding("warn", "finding.clipped"),
    loud < QUIET_DB && finding("warn", "finding.quiet"),
    loud - still < NOISY_DB && finding("warn", "finding.noisy"),
    isCut(frames, loud) && finding("warn", "finding.cut"),
  ].filter((found) => found !== false && found !== null);
  return warnings.length ? warnings : [finding("good", "finding.good")];
}

/**
 * @param {Finding["level"]} level
 * @param {TextKey} key
 * @param {Record<string, string | number>} [values]
 * @returns {Finding}
 */
function finding(level, key, values) {
  return { code: key, level, text: text(key, values) };
}

/**
 * @param {number} seconds
 * @param {Limits} limits
 * @returns {Finding | null}
 */
function lengthProblem(seconds, { reference_min_seconds: min, reference_max_seconds: max }) {
  if (seconds < min) return finding("stop", "finding.too_short", { seconds: seconds.toFixed(1), min });
  if (seconds > max) return finding("stop", "finding.too_long", { seconds: Math.round(seconds), max });
  return null;
}

/**
 * @param {string} transcript
 * @param {number} seconds  Of speech.
 * @returns {Finding | null}
 */
function transcriptProblem(transcript, seconds) {
  if (!transcript.trim()) return finding("warn", "finding.no_transcript");
  const count = (/** @type {RegExp} */ pattern) => transcript.match(pattern)?.length ?? 0;
  const rate = (count(LETTERS) + 2 * count(SYLLABLES)) / Math.max(seconds, 0.1);
  const values = { seconds: Math.round(seconds) };
  if (rate > LETTERS_MAX) return finding("warn", "finding.transcript_long", values);
  if (rate < LETTERS_MIN) return finding("warn", "finding.transcript_short", values);
  return null;
}

/**
 * @param {Float32Array} samples
 * @returns {number}
 */
function clippedShare(samples) {
  let clipped = 0;
  for (const sample of samples) if (Math.abs(sample) >= CLIPPED) clipped++;
  return clipped / Math.max(1, samples.length);
}

/**
 * @param {number[]} frames
 * @param {number} loud
 * @returns {boolean} Whether an end of the recording is as loud as speech.
 */
function isCut(frames, loud) {
  const count = Math.floor(framesOf(ENDS_SECONDS) / 2);
  const ends = [frames.slice(0, count), frames.slice(-count)];
  return ends.some((end) => end.length > 0 && Math.min(...end) > loud - 6);
}
