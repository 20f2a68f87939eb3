/** The level of a recording over time. */

const FRAME_SECONDS = 0.02;

/**
 * @param {Float32Array} samples
 * @param {number} rate  Hz.
 * @returns {number[]} The level of each frame of 20 ms, dBFS.
 */
export function levels(samples, rate) {
  const size = Math.max(1, Math.round(rate * FRAME_SECONDS));
  const found = [];
  for (let start = 0; start + size <= samples.length; start += size) {
    found.push(decibels(rootMeanSquare(samples.subarray(start, start + size))));
  }
  return found.length ? found : [decibels(rootMeanSquare(samples))];
}

/**
 * @param {number} seconds
 * @returns {number} The number of frames.
 */
export function framesOf(seconds) {
  return Math.round(seconds / FRAME_SECONDS);
}

/**
 * @param {number} frames
 * @returns {number}
 */
export function secondsOf(frames) {
  return frames * FRAME_SECONDS;
}

/**
 * @param {number[]} values
 * @param {number} share
 * @returns {number}
 */
export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
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
