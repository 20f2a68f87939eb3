/** Sentences above everything: what went wrong, or is used up. */

import { sentenceOf } from "../service/requests.js";
import { byId, fill, make } from "./element.js";
import { update, watch } from "./state.js";
import { timeOfDay } from "./times.js";

const bar = byId("notice", HTMLElement);
const announcer = byId("announcer", HTMLElement);

/** Show when a share is used up, and until when. */
export function showLimits() {
  watch(
    (now) => now.limit,
    (limit) => {
      if (!limit) return hide();
      const until = limit.until ? ` There is more at ${timeOfDay(new Date(limit.until).toISOString())}.` : "";
      show(limit.text + until);
      if (limit.until) window.setTimeout(() => update({ limit: null }), limit.until - Date.now());
    },
  );
}

/**
 * Say what went wrong.
 *
 * @param {unknown} error
 */
export function showError(error) {
  show(sentenceOf(error));
}

/**
 * Say something to who can't see it.
 *
 * @param {string} text
 */
export function announce(text) {
  announcer.textContent = text;
}

/** @param {string} text */
function show(text) {
  const close = make("button", { type: "button", class: "quiet", onclick: hide }, "Close");
  fill(bar, make("p", {}, text), close);
  bar.hidden = false;
}

function hide() {
  bar.hidden = true;
}
