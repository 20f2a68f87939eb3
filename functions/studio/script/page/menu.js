/** A button with a list of things to do under it. */

import { make } from "./element.js";

/**
 * @param {Node | string} face
 * @param {string} label
 * @param {[string, () => void][]} items
 * @returns {HTMLDetailsElement}
 */
export function makeMenu(face, label, items) {
  const summary = make("summary", { class: "quiet", "aria-label": label }, face);
  const list = make("div", { class: "menu-items" });
  const menu = make("details", { class: "menu" }, summary, list);
  for (const [text, act] of items) {
    const choose = () => {
      menu.open = false;
      act();
    };
    list.append(make("button", { type: "button", onclick: choose }, text));
  }
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    summary.focus();
  });
  return menu;
}

/** Close every menu that is open when something else is pressed. */
export function closeMenusElsewhere() {
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(/** @type {Node} */ (event.target))) menu.removeAttribute("open");
    }
  });
}
