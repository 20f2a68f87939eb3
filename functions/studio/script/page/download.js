/** Takes and voices as files. */

import { Problem, request } from "../service/requests.js";
import { make } from "./element.js";

export const FORMATS = ["wav", "mp3", "flac", "opus", "aac", "pcm"];

/**
 * Save a take in a format.
 *
 * @param {string} jobId
 * @param {string} format
 * @param {string} name  Without its ending.
 * @returns {Promise<void>}
 */
export async function downloadTake(jobId, format, name) {
  try {
    saveAs(await (await request(`previews/${jobId}.${format}`)).blob(), `${name}.${format}`);
  } catch (error) {
    const isUnknown =
      error instanceof Problem && (error.status === 404 || error.status === 422) && format !== "wav";
    if (!isUnknown) throw error;
    throw new Error(`This service gives no ${format.toUpperCase()}. WAV always works.`);
  }
}

/**
 * @param {Blob} content
 * @param {string} name
 */
export function saveAs(content, name) {
  const href = URL.createObjectURL(content);
  make("a", { href, download: name }).click();
  window.setTimeout(() => URL.revokeObjectURL(href), 10_000);
}
