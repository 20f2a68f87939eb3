/** The active engine: the headline, and a notice if its speech is no clone or it can't start. */

import { byId, fill, make } from "./element.js";
import { state, watch } from "./state.js";
import { text } from "./text.js";

/** @typedef {import("./state.js").Engine} Engine */

export function showEngine() {
  watch(
    (now) => `${now.engine?.name} ${now.engineStart?.error}`,
    () => show(state.engine, state.engineStart?.error),
  );
  watch(
    (now) => now.reference !== null,
    (hasVoice) => byId("headline", HTMLElement).classList.toggle("is-small", hasVoice),
  );
}

/**
 * @param {string} name
 * @returns {Engine | null} The engine, without the texts of the service. Null if the page does not know it.
 */
export function engineOf(name) {
  if (name === "qwen") return { name, clones: true, label: "" };
  return isKnown(name) ? { name, clones: false, label: "" } : null;
}

/** @returns {string} The label of the audio, or nothing if it is a clone. */
export function engineLabel() {
  const { engine } = state;
  if (!engine || engine.clones) return "";
  return isKnown(engine.name) ? text(`engine.label_${engine.name}`) : engine.label;
}

/**
 * @param {Engine | null} engine
 * @param {string} [error] Why the engine can't start, and the next step.
 */
function show(engine, error) {
  byId("headline", HTMLElement).textContent = text(headlineOf(engine));
  const notice = byId("engine-notice", HTMLElement);
  notice.classList.toggle("is-error", error !== undefined);
  if (error) fill(notice, ...withCommands(error));
  else if (engine && isKnown(engine.name)) fill(notice, text(`engine.${engine.name}`), " ", cloneHelp());
  else fill(notice, ...withCommands(engine?.notice ?? ""));
  notice.hidden = notice.textContent === "";
}

function cloneHelp() {
  return make(
    "details",
    {},
    make("summary", {}, text("engine.clone_title")),
    ...withCommands(text("engine.clone_help")),
  );
}

/**
 * @param {string} sentence  With commands between backticks.
 * @returns {(Node | string)[]}
 */
function withCommands(sentence) {
  return sentence.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

/**
 * @param {Engine | null} engine
 * @returns {import("./text.js").TextKey}
 */
function headlineOf(engine) {
  if (engine === null) return "headline.unknown";
  if (engine.clones) return "headline.clone";
  return engine.name === "mock" ? "headline.test" : "headline.stock";
}

/**
 * @param {string} name
 * @returns {name is "hibari" | "mock"} Whether the page has its texts in each language.
 */
function isKnown(name) {
  return name === "hibari" || name === "mock";
}
