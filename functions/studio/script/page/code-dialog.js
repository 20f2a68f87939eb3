/** The dialog that shows what a program would send. */

import { optionsNow, textNow } from "../takes/text-panel.js";
import { byId, fill, make } from "./element.js";
import { SnippetMaker } from "./snippets.js";
import { state } from "./state.js";

/** @typedef {import("./snippets.js").Snippets} Snippets */
/** @typedef {import("./state.js").Take} Take */
/** @typedef {import("./state.js").SavedVoice} SavedVoice */
/** @typedef {"speak" | "save" | "list" | "rename" | "export" | "sample" | "delete" | "status"} Action */

/** @type {[keyof Snippets, string][]} */
const TABS = [
  ["curl", "curl"],
  ["python", "Python"],
  ["websocket", "WebSocket"],
];
const NO_MESSAGE = "There is no WebSocket message for this; it goes over HTTP.";

/** What can be done with a saved voice. @type {[Action, string][]} */
const OF_A_VOICE = [
  ["sample", "Play the sample"],
  ["rename", "Rename"],
  ["export", "Export"],
  ["delete", "Delete"],
];

const dialog = byId("code-dialog", HTMLDialogElement);
const tabs = byId("code-tabs", HTMLElement);
const text = byId("code-text", HTMLElement);
const actions = byId("code-action", HTMLSelectElement);

/** @type {Snippets} */
let snippets = { curl: "", python: "", websocket: null };
/** @type {keyof Snippets} */
let chosen = "curl";
/** @type {SavedVoice | undefined} */
let shown;

export function showCodeButtons() {
  tabs.append(...TABS.map(([name, label]) => tab(name, label)));
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const place = TABS.findIndex(([name]) => name === chosen);
    choose(TABS[(place + step + TABS.length) % TABS.length]?.[0] ?? "curl");
    document.getElementById(`code-${chosen}`)?.focus();
  });
  actions.append(...OF_A_VOICE.map(([value, label]) => make("option", { value }, label)));
  actions.addEventListener("change", () => show(/** @type {Action} */ (actions.value), undefined, shown));
  byId("code-copy", HTMLButtonElement).addEventListener("click", (event) => void copy(event));
  for (const button of document.querySelectorAll("button[data-code]")) {
    const { code } = /** @type {HTMLElement} */ (button).dataset;
    button.addEventListener("click", () => showCode(/** @type {Action} */ (code)));
  }
}

/**
 * Show the code of an action.
 *
 * @param {Action} action
 * @param {Take} [take]
 * @param {SavedVoice} [voice]
 */
export function showCode(action, take, voice) {
  shown = voice;
  byId("code-action-field", HTMLElement).hidden = !voice;
  actions.value = action;
  show(action, take, voice);
  dialog.showModal();
}

/**
 * @param {Action} action
 * @param {Take} [take]
 * @param {SavedVoice} [voice]
 */
function show(action, take, voice) {
  const maker = new SnippetMaker(state.access === "given", state.streams);
  snippets = made(maker, action, take, voice);
  choose(chosen);
}

/**
 * @param {SnippetMaker} maker
 * @param {Action} action
 * @param {Take} [take]
 * @param {SavedVoice} [voice]
 * @returns {Snippets}
 */
function made(maker, action, take, voice) {
  const id = voice?.voice_id ?? "nova";
  switch (action) {
    case "speak":
      return take
        ? maker.speak({ ...take, transcript: "" }, take.text, take.options)
        : maker.speak(sourceNow(), textNow() || "Anything you like.", optionsNow());
    case "save":
      return maker.save({
        session_id: sourceNow().sessionId ?? "…",
        name: "Nova",
        description: "calm",
        consent: "…",
      });
    case "list":
      return maker.list();
    case "sample":
      return maker.sample(id);
    case "rename":
      return maker.rename(id, { name: voice?.name ?? "Nova", description: voice?.description ?? "" });
    case "export":
      return maker.export(id);
    case "delete":
      return maker.remove(id);
    case "status":
      return maker.status();
  }
}

function sourceNow() {
  const { reference } = state;
  if (reference?.kind === "voice")
    return { voiceId: reference.voice.voice_id, sessionId: null, transcript: "" };
  return {
    voiceId: null,
    sessionId: reference?.sessionId ?? null,
    transcript: reference?.transcript ?? "What is said in it.",
  };
}

/**
 * @param {keyof Snippets} name
 * @param {string} label
 */
function tab(name, label) {
  return make(
    "button",
    {
      type: "button",
      role: "tab",
      id: `code-${name}`,
      "aria-controls": "code-panel",
      onclick: () => choose(name),
    },
    label,
  );
}

/** @param {keyof Snippets} name */
function choose(name) {
  chosen = name;
  for (const [other] of TABS) {
    const button = byId(`code-${other}`, HTMLButtonElement);
    button.setAttribute("aria-selected", String(other === name));
    button.tabIndex = other === name ? 0 : -1;
  }
  byId("code-panel", HTMLElement).setAttribute("aria-labelledby", `code-${name}`);
  fill(text, snippets[name] ?? NO_MESSAGE);
  byId("code-copy", HTMLButtonElement).disabled = snippets[name] === null;
}

/** @param {Event} event */
async function copy(event) {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  await navigator.clipboard.writeText(text.textContent ?? "");
  button.textContent = "Copied";
  window.setTimeout(() => {
    button.textContent = "Copy";
  }, 1500);
}
