/** What is wrong with a recording, said before it is sent. */

/** @typedef {import("../page/state.js").Finding} Finding */
/** @typedef {import("../page/state.js").Limits} Limits */

const FRAME_SECONDS = 0.02;
const SHORT_SECONDS = 4;
const SILENT_DB = -55;
const QUIET_DB = -38;
const CLIPPED = 0.985;
const CLIPPED_SHARE = 0.0005;
const NOISY_DB = 18;
const ENDS_SECONDS = 0.15;

/**
 * Judge the part of a recording that will be sent.
 *
 * @param {Float32Array} samples  Mono.
 * @param {number} rate  Hz.
 * @param {Limits} limits
 * @returns {Finding[]} The worst first; one that says so when all is well.
 */
export function checkRecording(samples, rate, limits) {
  const seconds = samples.length / rate;
  const frames = levels(samples, rate);
  const loud = percentile(frames, 0.9);
  const still = percentile(frames, 0.1);
  const stop = [...lengthProblems(seconds, limits), ...(loud < SILENT_DB ? [finding("silent")] : [])];
  if (stop.length) return stop;
  const warnings = [
    seconds < SHORT_SECONDS && finding("short"),
    clippedShare(samples) > CLIPPED_SHARE && finding("clipped"),
    loud < QUIET_DB && finding("quiet"),
    loud - still < NOISY_DB && finding("noisy"),
    isCut(frames, loud) && finding("cut"),
  ].filter((found) => found !== false);
  return warnings.length ? warnings : [finding("good")];
}

/** @type {Record<string, Omit<Finding, "code">>} */
const SENTENCES = {
  silent: {
    level: "stop",
    text: "There is nothing to hear. Is the right microphone chosen, and is it switched on?",
  },
  short: { level: "warn", text: "It is rather short. Five to fifteen seconds give a closer voice." },
  clipped: {
    level: "warn",
    text: "The loudest parts are clipped. Step back from the microphone, or turn it down.",
  },
  quiet: { level: "warn", text: "It is very quiet. Come closer, or turn the microphone up." },
  noisy: {
    level: "warn",
    text: "There is noise behind the voice, or no pause in it. A quiet room sounds better.",
  },
  cut: {
    level: "warn",
    text: "It starts or ends in the middle of a word. Move the handles, or leave a little silence.",
  },
  good: { level: "good", text: "This is a good recording." },
};

/**
 * @param {string} code
 * @returns {Finding}
 */
function finding(code) {
  const sentence = SENTENCES[code];
  if (!sentence) throw new Error(`There is no finding ${code}`);
  return { code, ...sentence };
}

/**
 * @param {number} seconds
 * @param {Limits} limits
 * @returns {Finding[]}
 */
function lengthProblems(seconds, limits) {
  const { reference_min_seconds: least, reference_max_seconds: most } = limits;
  if (seconds < least) {
    const text = `It lasts ${seconds.toFixed(1)} s; it has to be at least ${least} s, better five to fifteen.`;
    return [{ code: "too-short", level: "stop", text }];
  }
  if (seconds > most) {
    const text = `It lasts ${Math.round(seconds)} s; at most ${most} s can be used. Move the handles.`;
    return [{ code: "too-long", level: "stop", text }];
  }
  return [];
}

/**
 * @param {Float32Array} samples
 * @param {number} rate
 * @returns {number[]} The level of each frame, dBFS.
 */
function levels(samples, rate) {
  const size = Math.max(1, Math.round(rate * FRAME_SECONDS));
  const found = [];
  for (let start = 0; start + size <= samples.length; start += size) {
    found.push(decibels(rootMeanSquare(samples.subarray(start, start + size))));
  }
  return found.length ? found : [decibels(rootMeanSquare(samples))];
}

/**
 * @param {Float32Array} samples
 * @returns {number}
 */
export function rootMeanSquare(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.sqrt(sum / Math.max(1, samples.length));
}

/**
 * @param {number} amplitude
 * @returns {number} dBFS, -100 at least.
 */
export function decibels(amplitude) {
  return 20 * Math.log10(Math.max(amplitude, 1e-5));
}

/**
 * @param {number[]} values
 * @param {number} share
 * @returns {number}
 */
function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
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
  const count = Math.round(ENDS_SECONDS / FRAME_SECONDS / 2);
  const ends = [frames.slice(0, count), frames.slice(-count)];
  return ends.some((end) => end.length > 0 && Math.min(...end) > loud - 6);
}
