/** The saved voices: search, play, use, rename, export, import and delete. */

import { byId, fill, icon, make, onFile } from "../page/element.js";
import { confirm, formDialog } from "../page/form-dialog.js";
import { makeMenu } from "../page/menu.js";
import { announce, showError } from "../page/notice.js";
import { state, update, watch } from "../page/state.js";
import { text } from "../page/text.js";
import { day } from "../page/times.js";
import { request } from "../service/requests.js";
import { saveAs } from "../takes/download.js";
import { sampleButton, sampleTime } from "./voice-samples.js";
import { importVoice, loadVoices, renameVoice } from "./voices.js";

/** @typedef {import("../page/state.js").SavedVoice} SavedVoice */

const search = byId("voice-search", HTMLInputElement);
const list = byId("voices", HTMLElement);
const rename = {
  name: byId("rename-name", HTMLInputElement),
  description: byId("rename-description", HTMLInputElement),
};

/** @type {SavedVoice | null} The voice of the open dialog. */
let chosen = null;
let openRename = () => {};

export function showSavedVoices() {
  openRename = formDialog("rename", async () => {
    if (!chosen) return;
    await renameVoice(chosen, {
      name: rename.name.value.trim(),
      description: rename.description.value.trim(),
    });
    return nearest(chosen.voice_id);
  });
  search.addEventListener("input", show);
  watch((now) => now.voices, show);
  watch((now) => now.reference, show);
  onFile("import", (bundle) => void importBundle(bundle).catch(showError));
}

function show() {
  const { voices } = state;
  const wanted = search.value.trim().toLocaleLowerCase();
  const found = (voices ?? []).filter(({ name, description }) =>
    `${name} ${description}`.toLocaleLowerCase().includes(wanted),
  );
  fill(list, ...found.map(row));
  search.parentElement?.toggleAttribute("hidden", !voices?.length);
  const none = byId("voices-none", HTMLElement);
  none.hidden = found.length > 0;
  if (voices)
    none.textContent = voices.length
      ? text("voices.no_match", { search: search.value })
      : text("voices.none");
}

/** @param {SavedVoice} voice */
function row(voice) {
  const { voice_id: id, name, description, consent } = voice;
  const isInUse = state.reference?.kind === "voice" && state.reference.voice.voice_id === id;
  const use = make(
    "button",
    {
      type: "button",
      class: "key small",
      "aria-label": text("voices.use_label", { name }),
      disabled: isInUse,
      onclick: () => takeUp(voice),
    },
    text(isInUse ? "voices.in_use" : "voices.use"),
  );
  const details = make(
    "details",
    { class: "agreement" },
    make(
      "summary",
      {},
      consent ? text("voices.consent", { day: day(consent.given_at) }) : text("voices.details"),
    ),
    consent && make("blockquote", {}, consent.text),
    make("p", { class: "facts" }, text("voices.id"), " ", make("code", {}, id)),
  );
  return make(
    "li",
    { class: "saved-voice", data: { voice: id } },
    sampleButton(voice),
    make(
      "div",
      { class: "saved-voice-about" },
      make("h3", {}, name),
      description && make("p", { class: "clamped", title: description }, description),
      make("p", { class: "facts" }, `${day(voice.created_at)} · `, sampleTime(voice)),
      details,
    ),
    use,
    menuOf(voice),
  );
}

/** @param {SavedVoice} voice */
function menuOf(voice) {
  return makeMenu(icon("more"), text("menu.label", { name: voice.name }), [
    [text("rename.submit"), () => askForName(voice)],
    [text("voices.export"), () => void exportVoice(voice).catch(showError)],
    [text("voices.delete"), () => askToDelete(voice)],
  ]);
}

/** @param {SavedVoice} voice */
function takeUp(voice) {
  update({ reference: { kind: "voice", voice } });
  announce(text("voices.is_in_use", { name: voice.name }));
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
  const { voice_id: id, name } = voice;
  confirm({
    title: text("voices.delete_title", { name }),
    what: text("voices.delete_what", { id }),
    submit: text("voices.delete"),
    act: async () => {
      const next =
        list.querySelector(`[data-voice="${CSS.escape(id)}"] + li`)?.getAttribute("data-voice") ?? "";
      await remove(voice);
      return nearest(next);
    },
  });
}

/**
 * @param {string} id
 * @returns {HTMLElement} The menu of this voice, or the title if it is not shown.
 */
function nearest(id) {
  return (
    list.querySelector(`[data-voice="${CSS.escape(id)}"] summary.quiet`) ?? byId("voices-title", HTMLElement)
  );
}

/** @param {SavedVoice} voice */
async function remove(voice) {
  await request(`voices/${voice.voice_id}`, { method: "DELETE" });
  if (state.reference?.kind === "voice" && state.reference.voice.voice_id === voice.voice_id)
    update({ reference: null });
  await loadVoices();
  announce(text("voices.is_deleted", { name: voice.name }));
}

/** @param {SavedVoice} voice */
async function exportVoice({ voice_id: id }) {
  saveAs(await (await request(`voices/${id}/export`)).blob(), `${id}.zip`);
}

/** @param {File} bundle */
async function importBundle(bundle) {
  const { name } = await importVoice(bundle);
  announce(text("voices.is_imported", { name }));
}
