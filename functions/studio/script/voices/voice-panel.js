/** The panel of the voice in use: none yet, a recording, or a saved voice. */

import { byId, fill, make } from "../page/element.js";
import { confirm } from "../page/form-dialog.js";
import { state, update, watch } from "../page/state.js";
import { text } from "../page/text.js";
import { day } from "../page/times.js";
import { showRecordingEditor } from "../record/recording-editor.js";
import { sampleButton } from "./voice-samples.js";

/** @typedef {import("../page/state.js").SavedVoice} SavedVoice */

const again = byId("voice-again", HTMLButtonElement);
const saved = byId("voice-saved", HTMLElement);

export function showVoicePanel() {
  showRecordingEditor();
  again.addEventListener("click", startOver);
  watch(
    (now) => now.reference?.kind ?? "empty",
    (kind) => {
      byId("voice-empty", HTMLElement).hidden = kind !== "empty";
      byId("voice-recorded", HTMLElement).hidden = kind !== "recording";
      saved.hidden = kind !== "voice";
      again.hidden = kind === "empty";
      again.textContent = text(kind === "voice" ? "voice.new" : "voice.start_over");
    },
  );
  watch(
    (now) => (now.reference?.kind === "voice" ? now.reference.voice : null),
    (voice) => voice && showSaved(voice),
  );
  showSwitch();
}

function startOver() {
  const clear = () => {
    update({ reference: null });
    byId("record", HTMLButtonElement).focus();
    return byId("record", HTMLButtonElement);
  };
  if (state.reference?.kind === "voice") return void clear();
  confirm({
    title: text("voice.discard_title"),
    what: text("voice.discard_what"),
    submit: text("voice.discard"),
    act: async () => clear(),
  });
}

/** @param {SavedVoice} voice */
function showSaved(voice) {
  const about = make("p", { class: "facts" }, text("voice.saved_on", { day: day(voice.created_at) }));
  fill(
    saved,
    make(
      "div",
      { class: "saved-card" },
      sampleButton(voice),
      make("div", {}, make("h3", {}, voice.name), about),
    ),
    voice.description && make("p", { class: "clamped" }, voice.description),
  );
}

/** On phones, only the recorder or the saved voices are shown. */
function showSwitch() {
  const column = /** @type {HTMLElement} */ (document.querySelector(".voice-column"));
  const buttons = {
    voice: byId("show-voice", HTMLButtonElement),
    saved: byId("show-saved", HTMLButtonElement),
  };
  const show = (/** @type {"voice" | "saved"} */ shown) => {
    column.dataset.shown = shown;
    buttons.voice.setAttribute("aria-pressed", String(shown === "voice"));
    buttons.saved.setAttribute("aria-pressed", String(shown === "saved"));
  };
  buttons.voice.addEventListener("click", () => show("voice"));
  buttons.saved.addEventListener("click", () => show("saved"));
  /** @type {HTMLFieldSetElement} */ (document.querySelector(".switch")).disabled = false;
  watch(
    (now) => now.reference,
    () => show("voice"),
  );
}
