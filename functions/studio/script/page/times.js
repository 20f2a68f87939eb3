/** Lengths and moments as people read them. */

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
 * @param {string} moment  As the service writes it.
 * @returns {string} Such as `3 May 2026`.
 */
export function day(moment) {
  return new Date(moment).toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
}

/**
 * @param {string} moment  As the service writes it.
 * @returns {string} Such as `14:03:22`.
 */
export function timeOfDay(moment) {
  return new Date(moment).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
