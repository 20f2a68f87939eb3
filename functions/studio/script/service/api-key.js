/** The API key: asked for once, kept in the session storage of each tab, and passed on to new tabs. */

import { byId } from "../page/element.js";
import { state, update, watch } from "../page/state.js";
import { BASE, Problem, request, sentenceOf } from "./requests.js";

const KEPT_AS = "studio.key";
const ANSWER_MS = 500;

const tabs = new BroadcastChannel("studio.key");

/**
 * Find out whether the service requires a key.
 *
 * @param {() => void} onEntry  Called whenever the service accepts the key of this tab.
 */
export async function askForAccess(onEntry) {
  showDialog(onEntry);
  tabs.addEventListener("message", ({ data }) => {
    if (data === "wanted" && state.access === "given") tabs.postMessage({ key: state.key });
    if (data === "forgotten") forget();
  });
  try {
    const key = sessionStorage.getItem(KEPT_AS) ?? "";
    update({ key });
    await enter(key, onEntry);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    sessionStorage.removeItem(KEPT_AS);
    await enter(await keyOfOtherTab(), onEntry).catch((refused) => {
      if (!isRefusal(refused)) throw refused;
      update({ key: "", access: "wanted" });
    });
  }
}

/** @param {unknown} error */
function isRefusal(error) {
  return error instanceof Problem && error.status === 401;
}

/** @returns {Promise<string>} Empty if there is no other tab with a key. */
function keyOfOtherTab() {
  return new Promise((resolve) => {
    tabs.addEventListener("message", ({ data }) => data.key && resolve(data.key));
    window.setTimeout(() => resolve(""), ANSWER_MS);
    tabs.postMessage("wanted");
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

function forget() {
  sessionStorage.clear();
  indexedDB.deleteDatabase("studio");
  window.location.assign(BASE);
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
    tabs.postMessage("forgotten");
    forget();
  });
  const enterKey = byId("enter-key", HTMLButtonElement);
  for (const opener of [button, enterKey]) opener.addEventListener("click", () => dialog.showModal());
  watch(
    (now) => now.access,
    (access) => {
      const isWanted = access === "wanted";
      button.hidden = access !== "given";
      byId("key-forget", HTMLButtonElement).hidden = access !== "given";
      byId("key-needed", HTMLElement).hidden = !isWanted;
      byId("columns", HTMLElement).hidden = isWanted;
      if (isWanted && !dialog.open) dialog.showModal();
    },
  );
  dialog.addEventListener("close", () => {
    if (state.access === "wanted") enterKey.focus();
  });
}
