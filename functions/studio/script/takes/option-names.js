/** The names of the options on the page, and their values. */

import { text } from "../page/text.js";

/** @typedef {import("../page/state.js").Options} Options */

/** In the order of their effect. */
export const OPTION_NAMES = /** @type {const} */ ([
  "language",
  "temperature",
  "top_k",
  "top_p",
  "repetition_penalty",
  "max_seconds",
]);

/** @typedef {typeof OPTION_NAMES[number]} OptionName */

/**
 * @param {Options} options
 * @param {OptionName} name
 * @returns {string} Such as `German`, or `Default`.
 */
export function shownValue(options, name) {
  const value = options[name];
  if (value !== undefined) return String(value);
  return text(name === "language" ? "option.auto" : "option.default");
}

/**
 * @param {Options} options
 * @returns {string} Such as `Language: German, Expressiveness: 0.4`.
 */
export function summaryOf(options) {
  return OPTION_NAMES.filter((name) => options[name] !== undefined)
    .map((name) => `${text(`option.${name}`)}: ${options[name]}`)
    .join(", ");
}
