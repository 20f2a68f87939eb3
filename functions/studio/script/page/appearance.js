/** The colour scheme and the language of the page. */

import { byId, fill, icon } from "./element.js";
import { text } from "./text.js";

const KEPT_AS = "studio.theme";
/** @type {("auto" | "light" | "dark")[]} */
const THEMES = ["auto", "light", "dark"];

export function showAppearance() {
  const button = byId("theme", HTMLButtonElement);
  let theme = THEMES.find((one) => one === localStorage.getItem(KEPT_AS)) ?? "auto";
  const show = () => {
    document.documentElement.dataset.theme = theme;
    const label = text(`theme.${theme}`);
    button.setAttribute("aria-label", label);
    button.title = label;
    fill(button, icon(theme));
    document.dispatchEvent(new Event("theme-changed"));
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
    localStorage.setItem(KEPT_AS, theme);
    show();
  });
  show();
  const language = byId("page-language", HTMLSelectElement);
  language.addEventListener("change", () => {
    const to = new URL(location.href);
    to.searchParams.set("lang", language.value);
    location.assign(to);
  });
}
