/** Saves the recorded voice under a name, with the words by which its speaker agreed. */

import { byId } from "../page/element.js";
import { formDialog } from "../page/form-dialog.js";
import { announce } from "../page/notice.js";
import { state, update, watch } from "../page/state.js";
import { isUsable } from "../record/recording-editor.js";
import { requestJson } from "../service/requests.js";
import { uploaded } from "../takes/generation.js";
import { loadVoices } from "./voices.js";

const CONSENT =
  "I agree that this recording of my voice is saved here, and used to speak texts that I did not say.";

const name = byId("save-name", HTMLInputElement);
const description = byId("save-description", HTMLInputElement);
const consent = byId("save-consent", HTMLTextAreaElement);
const agreed = byId("save-agreed", HTMLInputElement);

export function showSaveDialog() {
  const open = formDialog("save", save);
  const button = byId("save", HTMLButtonElement);
  button.addEventListener("click", () => {
    consent.value ||= CONSENT;
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
  announce(`${voice.name} is saved.`);
  name.value = "";
  description.value = "";
}
