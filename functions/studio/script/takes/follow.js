/** Follows takes until they are complete: over the socket, or by polling their jobs. */

import { isUnderWay, state, takeOf, update, updateTake } from "../page/state.js";
import { text as textOf } from "../page/text.js";
import { Problem, request, requestJson, sentenceOf } from "../service/requests.js";
import { say } from "../service/socket.js";

/** @typedef {import("../page/state.js").Take} Take */
/** @typedef {import("../service/socket.js").Message} Message */

export const FIRST_LOOK = 2000; // milliseconds

/** @type {(take: Take, data: Record<string, any>) => void} */
let onAudio = () => {};

/** @param {(take: Take, data: Record<string, any>) => void} listener  Called with each chunk of audio. */
export function onAudioPiece(listener) {
  onAudio = listener;
}

/**
 * @param {Take} take
 * @returns {boolean} Whether there is a socket to send the request.
 */
export function askBySocket({ id, text, options, seed, sessionId, voiceId }) {
  const source = voiceId ? { voice_id: voiceId } : { session_id: sessionId };
  const how = { request_id: id, progress: true, ...(state.streams ? { stream: true } : {}) };
  return say("generate_preview", { ...source, text, ...options, seed, ...how });
}

/**
 * Handle a message of the socket.
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
  const queued = take.status === "sending" ? "queued" : take.status; // the message may be late
  const status = data.status === "queued" ? queued : "speaking";
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
  if (data.take === attempt && data.seq <= seq) return; // a duplicate
  const isAnew = attempt !== null && data.take !== attempt; // another worker has started over
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
 * @param {Record<string, any>} data
 * @returns {string[]} The faults of the recording, if the service has checked it.
 */
function adviceOf({ reference_check: check }) {
  const warnings = /** @type {{message: string, advice: string}[]} */ (check?.warnings ?? []);
  return warnings.map(({ message, advice }) => `${message} ${advice}`);
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
    warnings: [...(data.warnings ?? []), ...adviceOf(data)],
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
    // Large audio is redirected to the storage, which scripts can't read, but players can.
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
export function fail(id, sentence) {
  updateTake(id, { status: "failed", error: sentence });
}

/** @param {string} id */
export function expire(id) {
  const take = takeOf(id);
  if (take?.url?.startsWith("blob:")) URL.revokeObjectURL(take.url);
  updateTake(id, { status: "expired", url: null, audio: null });
}

/**
 * Poll a job: messages can get lost, and the position in the queue is only in the response.
 *
 * @param {string} id
 * @param {number} pause  Milliseconds.
 */
export function lookLater(id, pause) {
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

/** Subscribe to the jobs of this tab again, after the connection or the page was gone. */
export function findJobsAgain() {
  for (const take of state.takes.filter(({ status }) => isUnderWay(status))) {
    if (!take.jobId) fail(take.id, textOf("take.not_accepted"));
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
