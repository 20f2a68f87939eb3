/** What options are called on the page. */

/** @type {Record<string, string>} */
const NAMES = {
  language: "language",
  temperature: "liveliness",
  top_k: "top k",
  top_p: "top p",
  repetition_penalty: "repetition penalty",
  max_seconds: "longest",
  seed: "seed",
};

/** In the order in which they matter to a listener. */
export const OPTION_NAMES = Object.keys(NAMES);

/**
 * @param {string} option
 * @returns {string}
 */
export function nameOf(option) {
  return NAMES[option] ?? option;
}
