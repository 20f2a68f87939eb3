/** The views of the page, chosen by the fragment of the URL: `#studio`, `#verify`, `#operators`. */

import { byId } from "./element.js";
import { update, watch } from "./state.js";

/** @typedef {import("./state.js").View} View */

/** @type {View[]} */
const VIEWS = ["studio", "verify", "operators"];

export function showViews() {
  const follow = () => update({ view: VIEWS.find((view) => location.hash === `#${view}`) ?? "studio" });
  window.addEventListener("hashchange", follow);
  watch(
    (now) => now.view,
    (shown) => {
      for (const view of VIEWS) byId(view, HTMLElement).hidden = view !== shown;
      for (const link of document.querySelectorAll("[data-view]")) {
        const isShown = /** @type {HTMLElement} */ (link).dataset.view === shown;
        if (isShown) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
    },
  );
  follow();
}
