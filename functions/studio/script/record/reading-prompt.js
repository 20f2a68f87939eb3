/** The sentence to read aloud, and the language that is spoken. */

import { byId, make } from "../page/element.js";
import { LANGUAGES, languageOf, likelyLanguage } from "./reading-texts.js";

const select = byId("reading-language", HTMLSelectElement);
const shown = byId("reading-text", HTMLQuoteElement);
let turn = 0;

/** @returns {() => string} Returns the sentence that is shown. */
export function showReadingPrompt() {
  select.append(...LANGUAGES.map(({ name, own, code }) => make("option", { value: name, lang: code }, own)));
  select.value = likelyLanguage().name;
  select.addEventListener("change", () => show(0));
  byId("reading-other", HTMLButtonElement).addEventListener("click", () => show(turn + 1));
  show(0);
  return () => shown.textContent ?? "";
}

/** @param {number} next */
function show(next) {
  const { code, texts } = languageOf(select.value);
  turn = next % texts.length;
  shown.lang = code;
  shown.textContent = texts[turn] ?? texts[0];
}
