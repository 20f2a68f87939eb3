/** Durations and times of day. */

import { LANGUAGE } from "./text.js";

// The region of the browser, such as en-GB, if the page is in its language.
const LOCALE = navigator.languages.find((locale) => locale.startsWith(LANGUAGE)) ?? LANGUAGE;

/**
 * @param {number} seconds
 * @returns {string} Such as `0:08.4`.
 */
export function timecode(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
}

/**
 * @param {number} seconds
 * @returns {string} Such as `19:07`.
 */
export function clockOf(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/**
 * @param {string | number} moment  As the service writes it, or milliseconds since the epoch.
 * @returns {string} Such as `3 May 2026`.
 */
export function day(moment) {
  return new Date(moment).toLocaleDateString(LOCALE, { day: "numeric", month: "short", year: "numeric" });
}

/**
 * @param {string | number} moment  As the service writes it, or milliseconds since the epoch.
 * @returns {string} Such as `14:03`.
 */
export function timeOfDay(moment) {
  return new Date(moment).toLocaleTimeString(LOCALE, { hour: "2-digit", minute: "2-digit" });
}
