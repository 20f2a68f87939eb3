/** Asks for takes and follows them: over the socket where there is one, else by asking how the job stands. */

import { isUnderWay, state, takeOf, update, updateRecording, updateTake } from "../page/state.js";
import { encode } from "../record/wav.js";
import { Problem, request, requestJson, sentenceOf } from "../service/requests.js";
import { say } from "../service/socket.js";

/** @typedef {import("../page/state.js").Take} Take */
/** @typedef {import("../page/state.js").Recording} Recording */
/** @typedef {import("../page/state.js").Options} Options */
/** @typedef {import("../service/socket.js").Message} Message */

const FIRST_LOOK = 2000;
const SEED_MAX = 2 ** 31;

let count = 0;

/** @type {(take: Take, data: Record<string, any>) => void} */
let onAudio = () => {};

/** @param {(take: Take, data: Record<string, any>) => void} listener  Told of each piece of a take as it comes. */
export function onAudioPiece(listener) {
  onAudio = listener;
}

/**
 * Let the voice in use say something.
 *
 * @param {string} text
 * @param {Options} options  Those that are not as the service has them anyway.
 * @returns {Promise<void>}
 */
export async function speak(text, options) {
  const { reference } = state;
  if (!reference) throw new Error("Record a voice first, or choose a saved one.");
  const take = newTake(text, { seed: Math.floor(Math.random() * SEED_MAX), ...options });
  update({ takes: [take, ...state.takes], limit: null });
  try {
    if (reference.kind === "voice") {
      await ask(take.id, { voice_id: reference.voice.voice_id });
    } else {
      await ask(take.id, { session_id: await uploaded(reference) });
    }
  } catch (error) {
    fail(take.id, sentenceOf(error));
  }
}

/**
 * Let the voice of a take say the same once more.
 *
 * @param {Take} old
 * @returns {Promise<void>}
 */
export async function speakAgain(old) {
  if (!old.voiceId && !old.sessionId) return speak(old.text, old.options);
  const take = { ...newTake(old.text, old.options), speaker: old.speaker };
  update({ takes: [take, ...state.takes], limit: null });
  try {
    await ask(take.id, old.voiceId ? { voice_id: old.voiceId } : { session_id: old.sessionId });
  } catch (error) {
    fail(take.id, sentenceOf(error));
  }
}

/**
 * @param {string} text
 * @param {Options} options
 * @returns {Take}
 */
function newTake(text, options) {
  const { reference } = state;
  count = Math.max(count, ...state.takes.map((take) => take.number)) + 1;
  return {
    id: crypto.randomUUID(),
    number: count,
    status: "sending",
    text,
    options,
    speaker: reference?.kind === "voice" ? reference.voice.name : "Your recording",
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
 * Upload a recording unless that has been done.
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

/**
 * @param {Take} take
 * @returns {boolean} Whether there was a socket to ask by.
 */
function askBySocket({ id, text, options, sessionId, voiceId }) {
  const source = voiceId ? { voice_id: voiceId } : { session_id: sessionId };
  const how = { request_id: id, progress: true, ...(state.streams ? { stream: true } : {}) };
  return say("generate_preview", { ...source, text, ...options, ...how });
}

/** @param {Take} take */
async function askByRequest({ id, text, options, sessionId, voiceId }) {
  const form = new FormData();
  form.set("response_text", text);
  for (const [name, value] of Object.entries(options)) form.set(name, String(value));
  if (voiceId) form.set("voice_id", voiceId);
  else form.set("session_id", sessionId ?? "");
  const path = voiceId ? "preview-from-voice" : "preview";
  const job = await requestJson(path, { method: "POST", form, headers: { Prefer: "respond-async" } });
  updateTake(id, { jobId: job.job_id, status: "queued", ahead: job.ahead ?? null });
  lookLater(id, FIRST_LOOK);
}

/**
 * Take what the service says over the socket.
 *
 * @param {Message} message
 */
export function hear({ type, data }) {
  const take = state.takes.find(
    (one) => one.id === data.request_id || (data.job_id && one.jobId === data.job_id),
  );
  if (!take || !isUnderWay(take.status)) return;
  if (type === "progress") progressed(take, data);
  else if (type === "tts_audio") pieceCame(take, data);
  else if (type === "tts_complete") void completed(take, data);
  else if (type === "error") refused(take, data);
}

/**
 * @param {Take} take
 * @param {Record<string, any>} data
 */
function progressed(take, data) {
  const isNew = take.jobId === null;
  const status = data.status === "queued" ? "queued" : "speaking";
  const heard = Math.max(take.heard, Number(data.seconds ?? 0));
  updateTake(take.id, { jobId: data.job_id, status, heard, ahead: data.ahead ?? take.ahead });
  if (isNew) lookLater(take.id, FIRST_LOOK);
}

/**
 * @param {Take} take
 * @param {Record<string, any>} data
 */
function pieceCame(take, data) {
  const { attempt, seq } = take.last;
  if (data.take === attempt && data.seq <= seq) return; // sent twice
  const isAnew = attempt !== null && data.take !== attempt; // another worker has begun again
  const seconds = atob(data.audio).length / 2 / data.sample_rate;
  updateTake(take.id, {
    jobId: data.job_id,
    status: "speaking",
    heard: (isAnew ? 0 : take.heard) + seconds,
    last: { attempt: data.take, seq: data.seq },
  });
  onAudio(take, { ...data, isAnew });
}

/**
 * @param {Take} take
 * @param {Record<string, any>} data
 */
function refused(take, data) {
  if (data.field === "stream" && state.streams) {
    update({ streams: false });
    askBySocket(take);
    return;
  }
  if (data.code === "cancelled") updateTake(take.id, { status: "cancelled" });
  else if (data.code === "too_many_requests") update({ limit: { text: data.message, until: null } });
  if (data.code !== "cancelled") fail(take.id, data.message);
}

/**
 * @param {Take} take
 * @param {Record<string, any>} data
 */
async function completed(take, data) {
  updateTake(take.id, {
    jobId: data.job_id,
    status: "fetching",
    duration: data.duration_seconds,
    expiresAt: Date.parse(data.expires_at),
    warnings: data.warnings ?? [],
  });
  try {
    await fetchAudio(take.id, data.job_id);
  } catch (error) {
    endWith(take.id, error);
  }
}

/**
 * @param {string} id
 * @param {string} jobId
 */
async function fetchAudio(id, jobId) {
  try {
    const audio = await (await request(`previews/${jobId}.wav`)).blob();
    updateTake(id, { status: "ready", audio, url: URL.createObjectURL(audio) });
  } catch (error) {
    // One that is too large for an answer is redirected to the storage, which a script may not read, but a player may.
    if (!(error instanceof Problem) || error.status !== 0) throw error;
    const { signed_url: url } = await requestJson(`jobs/${jobId}?signed=1`);
    if (!url) throw error;
    updateTake(id, { status: "ready", url });
  }
}

/**
 * @param {string} id
 * @param {unknown} error
 */
function endWith(id, error) {
  if (error instanceof Problem && error.status === 410) expire(id);
  else if (error instanceof Problem && error.status === 0) lookLater(id, FIRST_LOOK);
  else fail(id, sentenceOf(error));
}

/**
 * @param {string} id
 * @param {string} sentence
 */
function fail(id, sentence) {
  updateTake(id, { status: "failed", error: sentence });
}

/** @param {string} id */
export function expire(id) {
  const take = takeOf(id);
  if (take?.url?.startsWith("blob:")) URL.revokeObjectURL(take.url);
  updateTake(id, { status: "expired", url: null, audio: null });
}

/**
 * Look how a job stands: a push can get lost, and its place in the queue is told only to who asks.
 *
 * @param {string} id
 * @param {number} pause  Milliseconds.
 */
function lookLater(id, pause) {
  window.setTimeout(() => void look(id), pause);
}

/** @param {string} id */
async function look(id) {
  const take = takeOf(id);
  if (!take?.jobId || !isUnderWay(take.status)) return;
  try {
    const answer = await request(`jobs/${take.jobId}`);
    const pause = 1000 * (Number(answer.headers.get("Retry-After")) || 2);
    seen(take, await answer.json());
    lookLater(id, Math.max(FIRST_LOOK, pause));
  } catch (error) {
    if (error instanceof Problem && (error.status === 404 || error.status === 410)) expire(id);
    else lookLater(id, 3 * FIRST_LOOK);
  }
}

/**
 * @param {Take} take
 * @param {Record<string, any>} job
 */
function seen(take, job) {
  const now = takeOf(take.id);
  if (!now || !isUnderWay(now.status)) return;
  if (job.status === "succeeded") void completed(take, job);
  else if (job.status === "expired") expire(take.id);
  else if (job.status === "failed") refused(take, { code: job.code, message: job.error });
  else if (job.ahead !== undefined && now.status === "queued") updateTake(take.id, { ahead: job.ahead });
}

/** Ask for the jobs of this tab again, after the connection or the page was gone. */
export function findJobsAgain() {
  for (const take of state.takes.filter(({ status }) => isUnderWay(status))) {
    if (!take.jobId) fail(take.id, "The connection was lost before the service had the job. Press “Again”.");
    else if (!say("subscribe", { job_id: take.jobId, request_id: take.id, progress: true }))
      lookLater(take.id, 0);
  }
}

/**
 * Stop a take that is under way.
 *
 * @param {Take} take
 */
export async function cancel(take) {
  if (!take.jobId) return;
  await request(`jobs/${take.jobId}`, { method: "DELETE" }).catch((error) => {
    if (error instanceof Problem && (error.status === 405 || error.status === 404)) return;
    throw error;
  });
  updateTake(take.id, { status: "cancelled" });
}

/** @param {string} id */
export function removeTake(id) {
  const take = takeOf(id);
  if (take && isUnderWay(take.status)) void cancel(take).catch(() => {});
  if (take?.url?.startsWith("blob:")) URL.revokeObjectURL(take.url);
  update({
    takes: state.takes.filter((one) => one.id !== id),
    compared: state.compared.filter((one) => one !== id),
  });
}
