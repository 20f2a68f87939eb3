/** The dialog with code samples of all actions. */

import { byId, fill, make } from "../page/element.js";
import { state } from "../page/state.js";
import { text as textOf } from "../page/text.js";
import { optionsNow, textNow } from "../takes/text-panel.js";
import { SnippetMaker } from "./snippets.js";

/** @typedef {import("./snippets.js").Snippets} Snippets */
/** @typedef {typeof ACTIONS[number]} Action */

const ACTIONS = /** @type {const} */ ([
  "speak",
  "save",
  "list",
  "sample",
  "rename",
  "export",
  "delete",
  "verify",
  "status",
]);
/** @type {[keyof Snippets, string][]} */
const TABS = [
  ["curl", "curl"],
  ["python", "Python"],
  ["websocket", "WebSocket"],
];
const dialog = byId("code-dialog", HTMLDialogElement);
const tabs = byId("code-tabs", HTMLElement);
const text = byId("code-text", HTMLElement);
const actions = byId("code-action", HTMLSelectElement);

/** @type {Snippets} */
let snippets = { curl: "", python: "", websocket: null };
/** @type {keyof Snippets} */
let chosen = "curl";

export function showCodeDialog() {
  tabs.append(...TABS.map(([name, label]) => tab(name, label)));
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const place = TABS.findIndex(([name]) => name === chosen);
    choose(TABS[(place + step + TABS.length) % TABS.length]?.[0] ?? "curl");
    document.getElementById(`code-${chosen}`)?.focus();
  });
  actions.append(...ACTIONS.map((value) => make("option", { value }, textOf(`code.${value}`))));
  actions.addEventListener("change", show);
  byId("code-copy", HTMLButtonElement).addEventListener("click", (event) => void copy(event));
  const open = byId("open-code", HTMLButtonElement);
  open.addEventListener("click", () => {
    show();
    dialog.showModal();
  });
  open.disabled = false;
}

function show() {
  const maker = new SnippetMaker(state.access === "given", state.streams);
  snippets = made(maker, /** @type {Action} */ (actions.value));
  choose(chosen);
}

/**
 * @param {SnippetMaker} maker
 * @param {Action} action
 * @returns {Snippets}
 */
function made(maker, action) {
  const voice = state.reference?.kind === "voice" ? state.reference.voice : state.voices?.[0];
  const id = voice?.voice_id ?? "nova";
  switch (action) {
    case "speak":
      return maker.speak(sourceNow(), textNow() || textOf("code.text"), optionsNow());
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
    case "verify":
      return maker.verify();
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
    transcript: reference?.transcript ?? textOf("code.transcript"),
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
  fill(text, snippets[name] ?? textOf("code.no_message"));
  byId("code-copy", HTMLButtonElement).disabled = snippets[name] === null;
}

/** @param {Event} event */
async function copy(event) {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  await navigator.clipboard.writeText(text.textContent ?? "");
  button.textContent = textOf("code.copied");
  window.setTimeout(() => {
    button.textContent = textOf("code.copy");
  }, 1500);
}
