/** The text to speak, and its options. */

import { byId, make } from "../page/element.js";
import { showError } from "../page/notice.js";
import { state, watch } from "../page/state.js";
import { text } from "../page/text.js";
import { LANGUAGES } from "../record/reading-texts.js";
import { isUsable } from "../record/recording-editor.js";
import { SEED_MAX, speak } from "./ask.js";
import { summaryOf } from "./option-names.js";

/** @typedef {import("../page/state.js").Options} Options */

const form = byId("words", HTMLFormElement);
const words = byId("text", HTMLTextAreaElement);
const button = byId("speak", HTMLButtonElement);
const temperature = byId("temperature", HTMLInputElement);
const language = byId("language", HTMLSelectElement);
const seed = byId("seed", HTMLInputElement);
const seedWrong = byId("seed-wrong", HTMLElement);
const optionsPanel = byId("options", HTMLDetailsElement);

const TEMPERATURE = "0.9";
const NUMBERS = /** @type {const} */ (["top_k", "top_p", "repetition_penalty", "max_seconds"]);

/** @param {() => void} onPress  Called in the handler of the press. */
export function showTextPanel(onPress) {
  language.append(make("option", { value: "Auto" }, text("option.auto")));
  language.append(...LANGUAGES.map(({ name, own }) => make("option", { value: name }, own)));
  // The language that is read is the language that is spoken, unless another one is chosen here.
  byId("reading-language", HTMLSelectElement).addEventListener("change", ({ target }) => {
    language.value = /** @type {HTMLSelectElement} */ (target).value;
    showOptions();
  });
  optionsPanel.addEventListener("input", showOptions);
  seed.addEventListener("change", () => void seedNow());
  showOptions();
  words.addEventListener("input", showHint);
  words.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void press(onPress);
  });
  watch((now) => now.reference, showHint);
  watch((now) => now.limits, showHint);
}

/** @param {() => void} onPress */
async function press(onPress) {
  const chosen = seedNow();
  if (button.disabled || chosen === undefined) return;
  if (!words.value.trim()) {
    words.focus();
    return;
  }
  onPress();
  button.disabled = true; // until the request is sent, so that a double click makes one take
  try {
    await speak(textNow(), optionsNow(), chosen);
  } catch (error) {
    showError(error);
  } finally {
    showHint();
  }
}

/** @returns {Options} Those that differ from the defaults of the service. */
export function optionsNow() {
  /** @type {Options} */
  const options = {};
  if (language.value !== "Auto") options.language = language.value;
  if (temperature.value !== TEMPERATURE) options.temperature = Number(temperature.value);
  for (const name of NUMBERS) {
    const { value } = byId(name, HTMLInputElement);
    if (value.trim()) options[name] = Number(value);
  }
  return options;
}

/** @returns {number | null | undefined} The seed of all takes; null if it is random; undefined if it is invalid. */
export function seedNow() {
  const value = seed.value.trim();
  const isValid = /^\d*$/.test(value) && Number(value) <= SEED_MAX;
  seedWrong.textContent = isValid ? "" : text("option.seed_wrong", { max: SEED_MAX });
  seed.setAttribute("aria-invalid", String(!isValid));
  if (!isValid) {
    optionsPanel.open = true;
    seed.focus();
    return undefined;
  }
  return value ? Number(value) : null;
}

/** @returns {string} */
export function textNow() {
  return words.value.trim();
}

/**
 * Edit the text and options of a take. The seed stays as it is.
 *
 * @param {string} said
 * @param {Options} options
 */
export function putInPanel(said, options) {
  words.value = said;
  language.value = String(options.language ?? "Auto");
  temperature.value = String(options.temperature ?? TEMPERATURE);
  for (const name of NUMBERS) byId(name, HTMLInputElement).value = String(options[name] ?? "");
  showOptions();
  showHint();
  words.focus();
}

/**
 * Use a seed for all further takes.
 *
 * @param {number} value
 */
export function lockSeed(value) {
  seed.value = String(value);
  optionsPanel.open = true;
  showOptions();
  seed.focus();
}

function showOptions() {
  byId("temperature-shown", HTMLOutputElement).value = Number(temperature.value).toFixed(2);
  const chosen = [summaryOf(optionsNow()), seed.value.trim() && `${text("option.seed")}: ${seed.value}`];
  byId("options-summary", HTMLElement).textContent = chosen.filter(Boolean).join(", ");
}

function showHint() {
  const { length } = words.value;
  const { text_max_chars: max } = state.limits;
  byId("text-count", HTMLElement).textContent = length ? text("text.count", { length, max }) : "";
  byId("text-count", HTMLElement).classList.toggle("is-over", length > max);
  const hint = byId("speak-hint", HTMLElement);
  button.disabled = !isUsable() || length > max;
  if (length > max) hint.textContent = text("text.too_long", { count: length - max });
  else if (!state.reference) hint.textContent = text("speak.no_voice");
  else if (!isUsable()) hint.textContent = text("speak.unusable");
  else hint.textContent = "";
}
