/** The panel of the voice that speaks: nothing yet, a recording, or a saved voice. */

import { byId, fill, icon, make } from "../page/element.js";
import { showError } from "../page/notice.js";
import { state, update, watch } from "../page/state.js";
import { day } from "../page/times.js";
import { showReadingPrompt } from "../record/reading-prompt.js";
import { showRecorder } from "../record/recorder.js";
import { showRecordingEditor } from "../record/recording-editor.js";
import { playSample } from "./sample-player.js";

/** @typedef {import("../page/state.js").SavedVoice} SavedVoice */

const again = byId("voice-again", HTMLButtonElement);
const saved = byId("voice-saved", HTMLElement);

export function showVoicePanel() {
  showRecorder(showReadingPrompt());
  showRecordingEditor();
  offerSavedVoices();
  again.addEventListener("click", () => {
    update({ reference: null });
    byId("record", HTMLButtonElement).focus();
  });
  watch(
    (now) => now.reference?.kind ?? "empty",
    (kind) => {
      byId("voice-empty", HTMLElement).hidden = kind !== "empty";
      byId("voice-recorded", HTMLElement).hidden = kind !== "recording";
      saved.hidden = kind !== "voice";
      again.hidden = kind === "empty";
    },
  );
  watch(
    (now) => (now.reference?.kind === "voice" ? now.reference.voice : null),
    (voice) => voice && showSaved(voice),
  );
}

/** @param {SavedVoice} voice */
function showSaved(voice) {
  const play = make("button", {
    type: "button",
    class: "play",
    "aria-label": `Play the sample of ${voice.name}`,
  });
  play.append(icon("play"));
  play.addEventListener("click", () => void playSample(voice.voice_id, play).catch(showError));
  const about = make("p", { class: "saved-about" }, `Saved on ${day(voice.created_at)}`);
  fill(
    saved,
    make("div", { class: "saved-card" }, play, make("div", {}, make("h3", {}, voice.name), about)),
    voice.description && make("p", {}, voice.description),
    voice.consent && make("blockquote", { class: "consent" }, voice.consent.text),
  );
}

function offerSavedVoices() {
  const select = byId("saved-voice", HTMLSelectElement);
  select.addEventListener("change", () => {
    const voice = state.voices?.find(({ voice_id: id }) => id === select.value);
    select.value = "";
    if (voice) update({ reference: { kind: "voice", voice } });
  });
  watch(
    (now) => now.voices,
    (voices) => {
      select.disabled = !voices?.length;
      const options = (voices ?? []).map(({ voice_id: value, name }) => make("option", { value }, name));
      fill(select, make("option", { value: "" }, "Use a saved voice"), ...options);
    },
  );
}
