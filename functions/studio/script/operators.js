/** What whoever runs the service wants to know, asked for while it is looked at. */

import { byId } from "./element.js";
import { update, watch } from "./state.js";

export function showOperators() {
  const follow = () => update({ view: window.location.hash === "#operators" ? "operators" : "studio" });
  window.addEventListener("hashchange", follow);
  watch(
    (now) => now.view,
    (view) => {
      const isOperators = view === "operators";
      byId("studio", HTMLElement).hidden = isOperators;
      byId("operators", HTMLElement).hidden = !isOperators;
      byId("go-operators", HTMLElement).hidden = isOperators;
      byId("go-studio", HTMLElement).hidden = !isOperators;
    },
  );
  follow();
}
