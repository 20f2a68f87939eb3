/** The key: asked for where the service wants one, kept for this tab only. */

import { byId } from "../page/element.js";
import { state, update, watch } from "../page/state.js";
import { BASE, Problem, request, sentenceOf } from "./requests.js";

const KEPT_AS = "studio.key";

/**
 * Find out whether a key is wanted, and show who comes in by which.
 *
 * @param {() => void} onEntry  Called whenever the service lets this tab in.
 */
export async function askForAccess(onEntry) {
  showDialog(onEntry);
  const key = sessionStorage.getItem(KEPT_AS) ?? "";
  update({ key });
  await enter(key, onEntry).catch((error) => {
    if (!(error instanceof Problem) || error.status !== 401) throw error;
    sessionStorage.removeItem(KEPT_AS);
    update({ key: "", access: "wanted" });
  });
}

/**
 * @param {string} key
 * @param {() => void} onEntry
 */
async function enter(key, onEntry) {
  await request("voices?limit=1", { key });
  if (key) sessionStorage.setItem(KEPT_AS, key);
  update({ key, access: key ? "given" : "open" });
  onEntry();
}

/** @param {() => void} onEntry */
function showDialog(onEntry) {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const field = byId("key", HTMLInputElement);
  const wrong = byId("key-wrong", HTMLElement);
  const button = byId("open-key", HTMLButtonElement);

  dialog.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    try {
      await enter(field.value.trim(), onEntry);
      field.value = "";
      dialog.close();
    } catch (error) {
      wrong.textContent = sentenceOf(error);
      field.focus();
    }
  });
  byId("key-forget", HTMLButtonElement).addEventListener("click", () => {
    sessionStorage.clear();
    window.location.assign(BASE);
  });
  button.addEventListener("click", () => dialog.showModal());
  watch(
    (now) => now.access,
    (access) => {
      button.hidden = access === "open" || access === "unknown";
      byId("key-forget", HTMLButtonElement).hidden = access !== "given";
      if (access === "wanted" && !dialog.open) dialog.showModal();
    },
  );
  dialog.addEventListener("close", () => {
    if (state.access === "wanted") byId("notice", HTMLElement).focus();
  });
}
