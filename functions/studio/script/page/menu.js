/** A button with a list of actions. */

import { make } from "./element.js";

const GAP = 4; // px

/**
 * @param {Node | string} face
 * @param {string} label
 * @param {[string, () => void][]} items
 * @returns {HTMLDetailsElement}
 */
export function makeMenu(face, label, items) {
  const summary = make("summary", { class: "quiet", "aria-label": label, title: label }, face);
  const list = make("div", { class: "menu-items" });
  const menu = make("details", { class: "menu" }, summary, list);
  for (const [name, act] of items) {
    const choose = () => {
      menu.open = false;
      summary.focus();
      act();
    };
    list.append(make("button", { type: "button", onclick: choose }, name));
  }
  summary.addEventListener("click", (event) => {
    event.preventDefault(); // the browser would open it later, before it has a place
    menu.open = !menu.open;
    place(menu);
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    summary.focus();
  });
  return menu;
}

/**
 * Show the list of a menu below its button, above it, or where there is space.
 *
 * @param {HTMLDetailsElement} menu
 */
function place(menu) {
  const [summary, list] = /** @type {HTMLElement[]} */ ([...menu.children]);
  if (!menu.open || !summary || !list) return;
  const button = summary.getBoundingClientRect();
  const { width, height } = list.getBoundingClientRect();
  const left = Math.max(GAP, Math.min(button.right, innerWidth - GAP) - width);
  const below = button.bottom + GAP;
  const above = button.top - height - GAP;
  const lowest = innerHeight - height - GAP;
  list.style.left = `${left}px`;
  list.style.top = `${Math.max(GAP, below <= lowest ? below : above > 0 ? above : lowest)}px`;
}

/** @returns {NodeListOf<HTMLDetailsElement>} */
function openMenus() {
  return document.querySelectorAll("details.menu[open]");
}

/** Close open menus when something else is pressed. */
export function closeMenusElsewhere() {
  document.addEventListener("click", ({ target }) => {
    for (const menu of openMenus()) menu.open = menu.contains(/** @type {Node} */ (target));
  });
  document.addEventListener("scroll", () => openMenus().forEach(place), { capture: true, passive: true });
}
