/** What the active engine delivers: the headline promises no more, and a notice names the difference to a clone. */

import { byId, fill, make } from "./element.js";
import { state, watch } from "./state.js";

/** @typedef {import("./state.js").Engine} Engine */

const CLONE_HEADLINE = "Read a sentence. Hear yourself say anything.";
const HEADLINE = "Record a voice. Hear it read your text.";
const STOCK_HEADLINE = "Record a voice. Hear a stock voice tuned to it.";

export function showEngine() {
  watch(
    (now) => `${now.engine?.name} ${now.engineStart?.error}`,
    () => show(state.engine, state.engineStart?.error),
  );
}

/** @returns {string} The label of the audio, or nothing if it is a clone. */
export function engineLabel() {
  return state.engine && !state.engine.clones ? state.engine.label : "";
}

/**
 * @param {Engine | null} engine
 * @param {string} [error] Why the engine can't start, and the next step.
 */
function show(engine, error) {
  const headlines = engine === null ? HEADLINE : engine.clones ? CLONE_HEADLINE : STOCK_HEADLINE;
  byId("headline", HTMLElement).textContent = headlines;
  const notice = byId("engine-notice", HTMLElement);
  const text = error ?? engine?.notice ?? "";
  notice.hidden = !text;
  // Commands are between backticks.
  const parts = text.split("`");
  fill(notice, ...parts.map((part, index) => (index % 2 ? make("code", {}, part) : part)));
}
