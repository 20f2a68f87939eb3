/** The bar for errors and used-up quotas, and announcements for screen readers. */

import { Problem, sentenceOf } from "../service/requests.js";
import { byId, fill, make } from "./element.js";
import { update, watch } from "./state.js";
import { text } from "./text.js";
import { timeOfDay } from "./times.js";

const bar = byId("notice", HTMLElement);
const announcer = byId("announcer", HTMLElement);
let isAboutConnection = false;

export function showNotices() {
  watch(
    (now) => now.limit,
    (limit) => {
      if (!limit) return hide();
      const until = limit.until ? ` ${text("notice.quota_until", { time: timeOfDay(limit.until) })}` : "";
      show(limit.text + until);
      if (limit.until) window.setTimeout(() => update({ limit: null }), limit.until - Date.now());
    },
  );
  watch(
    (now) => now.connection,
    (connection) => {
      if (isAboutConnection && (connection === "live" || connection === "asking")) hide();
    },
  );
}

/** @param {unknown} error */
export function showError(error) {
  show(sentenceOf(error));
  isAboutConnection = error instanceof Problem && error.status === 0;
}

/**
 * Say something to users of screen readers.
 *
 * @param {string} sentence
 */
export function announce(sentence) {
  announcer.textContent = sentence;
}

/** @param {string} sentence */
function show(sentence) {
  isAboutConnection = false;
  const close = make("button", { type: "button", class: "quiet", onclick: hide }, text("dialog.close"));
  fill(bar, make("p", {}, sentence), close);
  bar.hidden = false;
}

function hide() {
  bar.hidden = true;
}
