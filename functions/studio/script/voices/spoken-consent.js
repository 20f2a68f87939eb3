/** The consent that a speaker reads aloud, in the dialog that saves a voice. */

import { byId, fill, make } from "../page/element.js";
import { state } from "../page/state.js";
import { text } from "../page/text.js";
import { listen } from "../record/microphone.js";
import { encode } from "../record/wav.js";
import { requestJson, sentenceOf } from "../service/requests.js";
import { uploaded } from "../takes/ask.js";

const POLL_MS = 1500;
const POLLS = 20;

const person = byId("consent-person", HTMLInputElement);
const purpose = byId("consent-purpose", HTMLInputElement);
const record = byId("consent-record", HTMLButtonElement);
const reading = byId("consent-reading", HTMLElement);
const status = byId("consent-status", HTMLElement);

/** @type {Awaited<ReturnType<typeof listen>> | null} */
let microphone = null;
let consentId = "";

export function showSpokenConsent() {
  byId("consent-create", HTMLButtonElement).addEventListener("click", () => void create().catch(showProblem));
  record.addEventListener("click", () => void press().catch(showProblem));
  byId("save-dialog", HTMLDialogElement).addEventListener("close", reset);
}

async function create() {
  const { reference } = state;
  if (reference?.kind !== "recording") return;
  const missing = [person, purpose].find(({ value }) => !value.trim());
  if (missing) return missing.focus();
  const json = {
    session_id: await uploaded(reference),
    person: person.value.trim(),
    purposes: [purpose.value.trim()],
    language: byId("reading-language", HTMLSelectElement).value,
  };
  const consent = await requestJson("consents", { method: "POST", json });
  consentId = consent.consent_id;
  status.textContent = "";
  byId("consent-statement", HTMLElement).textContent = consent.statement;
  const link = (/** @type {string} */ href, /** @type {string} */ name) =>
    make("a", { href, target: "_blank", rel: "noreferrer" }, name);
  fill(
    byId("consent-links", HTMLElement),
    `${text("consent.links")} `,
    link(consent.receipt_url, text("consent.receipt")),
    ", ",
    link(consent.revocation_url, text("consent.revocation")),
  );
  reading.hidden = false;
  record.focus();
}

async function press() {
  const opened = microphone;
  microphone = null;
  if (opened) {
    record.textContent = text("consent.record");
    return send(await opened.end(), opened.rate);
  }
  microphone = await listen(() => {});
  microphone.begin();
  record.textContent = text("consent.stop");
}

/**
 * @param {Float32Array} samples
 * @param {number} rate
 */
async function send(samples, rate) {
  status.textContent = text("consent.sending");
  const form = new FormData();
  form.set("recording", await encode(samples, rate, 0, samples.length / rate), "consent.wav");
  let consent = await requestJson(`consents/${consentId}/recording`, { method: "POST", form });
  for (let polls = 0; consent.status === "unverified" && !consent.check && polls < POLLS; polls++) {
    await new Promise((resolve) => window.setTimeout(resolve, POLL_MS));
    consent = await requestJson(`consents/${consentId}`);
  }
  const isVerified = consent.status === "verified" || consent.status === "accepted";
  status.textContent = text(isVerified ? "consent.verified" : "consent.unverified");
}

/** @param {unknown} error */
function showProblem(error) {
  status.textContent = sentenceOf(error);
}

function reset() {
  void microphone?.end();
  microphone = null;
  record.textContent = text("consent.record");
  reading.hidden = true;
  status.textContent = "";
  consentId = "";
}
