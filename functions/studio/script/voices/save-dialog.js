/** Saves the recording as a voice, with the consent of its speaker. */

import { byId } from "../page/element.js";
import { formDialog } from "../page/form-dialog.js";
import { announce } from "../page/notice.js";
import { state, update, watch } from "../page/state.js";
import { text } from "../page/text.js";
import { isUsable } from "../record/recording-editor.js";
import { requestJson } from "../service/requests.js";
import { uploaded } from "../takes/ask.js";
import { showSpokenConsent } from "./spoken-consent.js";
import { loadVoices } from "./voices.js";

const name = byId("save-name", HTMLInputElement);
const description = byId("save-description", HTMLInputElement);
const consent = byId("save-consent", HTMLTextAreaElement);
const agreed = byId("save-agreed", HTMLInputElement);

export function showSaveDialog() {
  showSpokenConsent();
  const open = formDialog("save", save);
  const button = byId("save", HTMLButtonElement);
  button.addEventListener("click", () => {
    consent.value ||= text("save.consent_text");
    agreed.checked = false;
    open();
  });
  watch(
    (now) => now.reference,
    () => {
      button.disabled = !isUsable();
    },
  );
}

async function save() {
  const { reference } = state;
  if (reference?.kind !== "recording") return;
  const json = {
    session_id: await uploaded(reference),
    name: name.value.trim(),
    description: description.value.trim(),
    consent: consent.value.trim(),
  };
  const voice = await requestJson("voices", { method: "POST", json });
  await loadVoices();
  update({ reference: { kind: "voice", voice } });
  announce(text("save.done", { name: voice.name }));
  name.value = "";
  description.value = "";
  return byId("text", HTMLTextAreaElement);
}
