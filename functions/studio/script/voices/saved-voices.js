/** The saved voices, to search, hear, use, rename, export and delete. */

import { showCode } from "../page/code-dialog.js";
import { saveAs } from "../page/download.js";
import { byId, fill, icon, make } from "../page/element.js";
import { formDialog } from "../page/form-dialog.js";
import { makeMenu } from "../page/menu.js";
import { announce, showError } from "../page/notice.js";
import { state, update, watch } from "../page/state.js";
import { day, timecode } from "../page/times.js";
import { request } from "../service/requests.js";
import { playSample } from "./sample-player.js";
import { loadVoices, renameVoice } from "./voices.js";

/** @typedef {import("../page/state.js").SavedVoice} SavedVoice */

const search = byId("voice-search", HTMLInputElement);
const rename = {
  name: byId("rename-name", HTMLInputElement),
  description: byId("rename-description", HTMLInputElement),
};

/** @type {SavedVoice | null} The one that a dialog is about. */
let chosen = null;
let openRename = () => {};
let openDelete = () => {};

export function showSavedVoices() {
  openRename = formDialog("rename", async () => {
    if (chosen)
      await renameVoice(chosen, {
        name: rename.name.value.trim(),
        description: rename.description.value.trim(),
      });
  });
  openDelete = formDialog("delete", async () => {
    if (chosen) await remove(chosen);
  });
  search.addEventListener("input", show);
  watch((now) => now.voices, show);
  watch((now) => now.reference, show);
}

function show() {
  const { voices } = state;
  const wanted = search.value.trim().toLocaleLowerCase();
  const found = (voices ?? []).filter(({ name, description }) =>
    `${name} ${description}`.toLocaleLowerCase().includes(wanted),
  );
  fill(byId("voices", HTMLElement), ...found.map(row));
  search.parentElement?.toggleAttribute("hidden", !voices?.length);
  const none = byId("voices-none", HTMLElement);
  none.hidden = voices === null || found.length > 0;
  none.textContent = voices?.length
    ? `No voice is called anything like “${search.value}”.`
    : "No voices saved yet.";
}

/** @param {SavedVoice} voice */
function row(voice) {
  const { voice_id: id, name, description, duration_seconds: seconds, consent } = voice;
  const isInUse = state.reference?.kind === "voice" && state.reference.voice.voice_id === id;
  const play = make(
    "button",
    { type: "button", class: "play", "aria-label": `Play the sample of ${name}` },
    icon("play"),
  );
  play.addEventListener("click", () => void playSample(id, play).catch(showError));
  const facts = [day(voice.created_at), seconds && timecode(seconds), id].filter(Boolean).join(" · ");
  const use = make(
    "button",
    {
      type: "button",
      class: "key small",
      "aria-label": `Use ${name}`,
      disabled: isInUse,
      onclick: () => takeUp(voice),
    },
    isInUse ? "In use" : "Use",
  );
  return make(
    "li",
    { class: "saved-voice" },
    play,
    make(
      "div",
      { class: "saved-voice-about" },
      make("h3", {}, name),
      description && make("p", {}, description),
      make("p", { class: "facts" }, facts),
      consent && agreement(consent),
    ),
    use,
    menuOf(voice),
  );
}

/** @param {{text: string, given_at: string}} consent */
function agreement({ text, given_at: moment }) {
  return make(
    "details",
    { class: "agreement" },
    make("summary", {}, `Agreed on ${day(moment)}`),
    make("blockquote", {}, text),
  );
}

/** @param {SavedVoice} voice */
function menuOf(voice) {
  return makeMenu(icon("more"), `More about ${voice.name}`, [
    ["Rename", () => askForName(voice)],
    ["Export", () => void exportVoice(voice).catch(showError)],
    ["Delete", () => askToDelete(voice)],
    ["Code for these", () => showCode("sample", undefined, voice)],
  ]);
}

/** @param {SavedVoice} voice */
function takeUp(voice) {
  update({ reference: { kind: "voice", voice } });
  announce(`${voice.name} is in use.`);
  byId("text", HTMLTextAreaElement).focus();
}

/** @param {SavedVoice} voice */
function askForName(voice) {
  chosen = voice;
  rename.name.value = voice.name;
  rename.description.value = voice.description;
  byId("rename-id", HTMLElement).textContent = voice.voice_id;
  openRename();
}

/** @param {SavedVoice} voice */
function askToDelete(voice) {
  chosen = voice;
  byId("delete-what", HTMLElement).textContent =
    `“${voice.name}” goes for ever: its recording, the transcript, what the model learned from it, and the words of consent. ` +
    `Takes that were made with it stay until they expire. Programs that use it as ${voice.voice_id} will get an error.`;
  openDelete();
}

/** @param {SavedVoice} voice */
async function remove(voice) {
  await request(`voices/${voice.voice_id}`, { method: "DELETE" });
  if (state.reference?.kind === "voice" && state.reference.voice.voice_id === voice.voice_id)
    update({ reference: null });
  await loadVoices();
  announce(`${voice.name} is deleted.`);
}

/** @param {SavedVoice} voice */
async function exportVoice({ voice_id: id }) {
  saveAs(await (await request(`voices/${id}/export`)).blob(), `${id}.zip`);
}
