/** Keeps the recorded voice under a name, with the words by which its speaker agreed. */

import { byId } from "./element.js";
import { formDialog } from "./form-dialog.js";
import { announce } from "./notice.js";
import { isUsable } from "./recorded-voice.js";
import { requestJson } from "./service.js";
import { uploaded } from "./speaking.js";
import { state, update, watch } from "./state.js";
import { readVoices } from "./voices.js";

const CONSENT =
  "I agree that this recording of my voice is kept here, and used to speak texts that I did not say.";

const name = byId("keep-name", HTMLInputElement);
const description = byId("keep-description", HTMLInputElement);
const consent = byId("keep-consent", HTMLTextAreaElement);
const agreed = byId("keep-agreed", HTMLInputElement);

export function showKeepVoice() {
  const open = formDialog("keep", keep);
  const button = byId("keep", HTMLButtonElement);
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

async function keep() {
  const { reference } = state;
  if (reference?.kind !== "recording") return;
  const json = {
    session_id: await uploaded(reference),
    name: name.value.trim(),
    description: description.value.trim(),
    consent: consent.value.trim(),
  };
  const voice = await requestJson("voices", { method: "POST", json });
  await readVoices();
  update({ reference: { kind: "voice", voice } });
  announce(`${voice.name} is kept.`);
  name.value = "";
  description.value = "";
}
