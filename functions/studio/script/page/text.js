/** The texts of the page, in the language that the service has chosen. */

/** @typedef {keyof typeof import("../../language/en.json")} TextKey */

/** @type {Record<TextKey, string>} */
const texts = JSON.parse(document.getElementById("texts")?.textContent ?? "{}");

/** The language of the page, such as `en`. */
export const LANGUAGE = document.documentElement.lang;

/**
 * @param {TextKey} key
 * @param {Record<string, string | number>} [values]  For the names in braces.
 * @returns {string}
 */
export function text(key, values = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}
