/** Checks the recording by the service: noise, several speakers, and the words of the transcript. */

import { byId } from "../page/element.js";
import { showError } from "../page/notice.js";
import { state, updateRecording, watch } from "../page/state.js";
import { text } from "../page/text.js";
import { request, requestJson } from "../service/requests.js";
import { uploaded } from "../takes/ask.js";
import { isUsable } from "./recording-editor.js";

/** @typedef {import("../page/state.js").Finding} Finding */
/** @typedef {{warnings: {code: string, message: string, advice: string}[], suggested_transcription?: string | null}} Check */

const POLL_MS = 1500;
const POLLS = 40;

const button = byId("check", HTMLButtonElement);

export function showReferenceCheck() {
  button.addEventListener("click", () => void press());
  watch(
    (now) => now.reference,
    () => {
      button.disabled = !isUsable();
    },
  );
}

async function press() {
  const { reference } = state;
  if (reference?.kind !== "recording") return;
  button.disabled = true;
  button.textContent = text("check.running");
  try {
    const sessionId = await uploaded(reference);
    const check = await checked(sessionId);
    // A recording that has changed meanwhile has no session.
    if (state.reference?.kind === "recording" && state.reference.sessionId === sessionId) show(check);
  } catch (error) {
    showError(error);
  } finally {
    button.disabled = !isUsable();
    button.textContent = text("check.button");
  }
}

/**
 * @param {string} sessionId
 * @returns {Promise<Check>}
 */
async function checked(sessionId) {
  const form = new FormData();
  form.set("session_id", sessionId);
  const answer = await request("references/check", { method: "POST", form });
  const body = await answer.json();
  if (answer.status !== 202) return body;
  for (let polls = 0; polls < POLLS; polls++) {
    await new Promise((resolve) => window.setTimeout(resolve, POLL_MS));
    const job = await requestJson(`jobs/${body.job_id}`);
    if (job.reference_check) return job.reference_check;
    if (job.status === "failed") throw new Error(job.error);
  }
  throw new Error(text("check.timeout"));
}

/** @param {Check} check */
function show({ warnings, suggested_transcription: suggested }) {
  const transcript = byId("transcript", HTMLTextAreaElement);
  const isSuggested = !!suggested && !transcript.value.trim();
  if (isSuggested) {
    transcript.value = suggested;
    transcript.dispatchEvent(new Event("input"));
    transcript.focus();
  }
  // The findings of an earlier check are replaced.
  const findings = state.reference?.kind === "recording" ? state.reference.findings : [];
  const own = findings.filter(({ code, level }) => code.startsWith("finding.") && level !== "good");
  /** @type {Finding[]} */
  const found = warnings.map(({ code, message, advice }) => ({
    code,
    level: "warn",
    text: `${message} ${advice}`,
  }));
  if (isSuggested) found.unshift({ code: "suggested", level: "warn", text: text("check.suggested") });
  if (found.length === 0) found.push({ code: "checked", level: "good", text: text("check.good") });
  updateRecording({ findings: [...own, ...found] });
}
