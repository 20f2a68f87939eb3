/** Requests takes. */

import { state, takeOf, update, updateRecording, updateTake } from "../page/state.js";
import { text as textOf } from "../page/text.js";
import { encode } from "../record/wav.js";
import { requestJson, sentenceOf } from "../service/requests.js";
import { askBySocket, FIRST_LOOK, fail, lookLater } from "./follow.js";

/** @typedef {import("../page/state.js").Take} Take */
/** @typedef {import("../page/state.js").Recording} Recording */
/** @typedef {import("../page/state.js").Options} Options */

export const SEED_MAX = 2 ** 31 - 1;

let count = 0;

/**
 * Let the voice in use speak a text.
 *
 * @param {string} text
 * @param {Options} options  Those that differ from the defaults of the service.
 * @param {number | null} seed  Null: a random one.
 * @returns {Promise<void>}
 */
export async function speak(text, options, seed) {
  const { reference } = state;
  if (!reference) throw new Error(textOf("speak.no_voice"));
  const speaker = reference.kind === "voice" ? reference.voice.name : textOf("take.recording");
  const take = newTake(text, options, seed, speaker);
  await add(take, async () =>
    reference.kind === "voice"
      ? { voice_id: reference.voice.voice_id }
      : { session_id: await uploaded(reference) },
  );
}

/**
 * Let the voice of a take speak its text again.
 *
 * @param {Take} old
 * @param {number | null} seed  Null: a random one.
 * @returns {Promise<void>}
 */
export async function speakAgain(old, seed) {
  if (!old.voiceId && !old.sessionId) return speak(old.text, old.options, seed);
  const source = old.voiceId ? { voice_id: old.voiceId } : { session_id: old.sessionId };
  await add(newTake(old.text, old.options, seed, old.speaker), async () => source);
}

/**
 * @param {Take} take
 * @param {() => Promise<{session_id?: string | null, voice_id?: string}>} source
 */
async function add(take, source) {
  update({ takes: [take, ...state.takes], limit: null });
  try {
    await ask(take.id, await source());
  } catch (error) {
    fail(take.id, sentenceOf(error));
  }
}

/**
 * @param {string} text
 * @param {Options} options
 * @param {number | null} seed
 * @param {string} speaker
 * @returns {Take}
 */
function newTake(text, options, seed, speaker) {
  count = Math.max(count, ...state.takes.map((take) => take.number)) + 1;
  return {
    id: crypto.randomUUID(),
    number: count,
    status: "sending",
    text,
    options,
    seed: seed ?? Math.floor(Math.random() * SEED_MAX),
    speaker,
    sessionId: null,
    voiceId: null,
    jobId: null,
    askedAt: Date.now(),
    ahead: null,
    heard: 0,
    last: { attempt: null, seq: -1 },
    duration: null,
    expiresAt: null,
    url: null,
    audio: null,
    warnings: [],
    error: null,
  };
}

/**
 * Upload a recording, unless it has been uploaded as it is.
 *
 * @param {Recording} recording
 * @returns {Promise<string>} Its session.
 */
export async function uploaded(recording) {
  if (recording.sessionId) return recording.sessionId;
  const { samples, rate, trim, transcript } = recording;
  const form = new FormData();
  form.set("audio", await encode(samples, rate, trim.start, trim.end), "recording.wav");
  form.set("transcription", transcript);
  const { session_id: sessionId } = await requestJson("upload", { method: "POST", form });
  if (state.reference === recording) updateRecording({ sessionId });
  return sessionId;
}

/**
 * @param {string} id
 * @param {{session_id?: string | null, voice_id?: string}} source
 */
async function ask(id, source) {
  updateTake(id, { sessionId: source.session_id ?? null, voiceId: source.voice_id ?? null });
  const take = takeOf(id);
  if (take && !askBySocket(take)) await askByRequest(take);
}

/** @param {Take} take */
async function askByRequest({ id, text, options, seed, sessionId, voiceId }) {
  const form = new FormData();
  form.set("response_text", text);
  for (const [name, value] of Object.entries({ ...options, seed })) form.set(name, String(value));
  if (voiceId) form.set("voice_id", voiceId);
  else form.set("session_id", sessionId ?? "");
  const path = voiceId ? "preview-from-voice" : "preview";
  const job = await requestJson(path, { method: "POST", form, headers: { Prefer: "respond-async" } });
  updateTake(id, { jobId: job.job_id, status: "queued", ahead: job.ahead ?? null });
  lookLater(id, FIRST_LOOK);
}
