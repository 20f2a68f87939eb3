/** The text to speak, and how. */

import { byId, make } from "../page/element.js";
import { showError } from "../page/notice.js";
import { state, watch } from "../page/state.js";
import { LANGUAGES } from "../record/reading-texts.js";
import { isUsable } from "../record/recording-editor.js";
import { speak } from "./generation.js";

/** @typedef {import("../page/state.js").Options} Options */

const form = byId("words", HTMLFormElement);
const text = byId("text", HTMLTextAreaElement);
const button = byId("speak", HTMLButtonElement);
const temperature = byId("temperature", HTMLInputElement);
const language = byId("language", HTMLSelectElement);

const TEMPERATURE = "0.9";
const PLAIN = ["seed", "top_k", "top_p", "repetition_penalty", "max_seconds"];

/** @param {() => void} onPress  Called while the button is being pressed. */
export function showTextPanel(onPress) {
  language.append(make("option", { value: "Auto" }, "Auto"));
  language.append(...LANGUAGES.map(({ name }) => make("option", { value: name }, name)));
  temperature.addEventListener("input", showTemperature);
  showTemperature();
  text.addEventListener("input", showHint);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onPress();
    void press();
  });
  watch((now) => now.reference, showHint);
  watch((now) => now.limits, showHint);
}

async function press() {
  if (!text.value.trim()) {
    text.focus();
    return;
  }
  button.disabled = true; // until it is on its way, so that a double click is one take
  try {
    await speak(text.value.trim(), optionsNow());
  } catch (error) {
    showError(error);
  } finally {
    showHint();
  }
}

/** @returns {Options} Those that are not as the service has them anyway. */
export function optionsNow() {
  /** @type {Options} */
  const options = {};
  if (language.value !== "Auto") options.language = language.value;
  if (temperature.value !== TEMPERATURE) options.temperature = Number(temperature.value);
  for (const name of PLAIN) {
    const { value } = byId(name, HTMLInputElement);
    if (value.trim()) options[name] = Number(value);
  }
  return options;
}

/** @returns {string} */
export function textNow() {
  return text.value.trim();
}

/**
 * Put the text and options of a take into the panel.
 *
 * @param {string} words
 * @param {Options} options
 */
export function putInPanel(words, options) {
  text.value = words;
  language.value = String(options.language ?? "Auto");
  temperature.value = String(options.temperature ?? TEMPERATURE);
  for (const name of PLAIN) byId(name, HTMLInputElement).value = String(options[name] ?? "");
  showTemperature();
  showHint();
  text.focus();
}

function showTemperature() {
  byId("temperature-shown", HTMLOutputElement).value = Number(temperature.value).toFixed(2);
}

function showHint() {
  const over = text.value.length - state.limits.text_max_chars;
  const hint = byId("speak-hint", HTMLElement);
  button.disabled = !isUsable() || over > 0;
  if (over > 0) hint.textContent = `The text is ${over} characters too long.`;
  else if (!state.reference) hint.textContent = "Record a voice first, or choose a saved one.";
  else if (!isUsable()) hint.textContent = "This recording can’t be used as it is.";
  else hint.textContent = "";
}
