/** Takes and voices as files. */

import { make } from "../page/element.js";
import { text } from "../page/text.js";
import { request } from "../service/requests.js";

/** @typedef {import("../page/state.js").Take} Take */

/** Formats besides WAV. */
export const FORMATS = ["mp3", "flac", "opus", "aac"];

/**
 * @param {Take} take
 * @param {string} format
 * @returns {Promise<void>}
 */
export async function downloadTake(take, format) {
  const isLocal = format === "wav" && take.audio !== null;
  const audio = isLocal ? take.audio : await (await request(`previews/${take.jobId}.${format}`)).blob();
  if (audio) saveAs(audio, nameOf(take, format));
}

/**
 * Save all takes of this browser in one archive.
 *
 * @param {Take[]} takes
 * @returns {Promise<void>}
 */
export async function downloadAll(takes) {
  const { downloadZip } = await import("../../vendor/client-zip.esm.js");
  const files = takes.flatMap((take) =>
    take.audio
      ? [{ name: nameOf(take, "wav"), lastModified: new Date(take.askedAt), input: take.audio }]
      : [],
  );
  if (files.length === 0) throw new Error(text("takes.none_stored"));
  saveAs(await downloadZip(files).blob(), "takes.zip");
}

/**
 * @param {Take} take
 * @param {string} format
 */
function nameOf({ number }, format) {
  return `take-${number}.${format}`;
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
