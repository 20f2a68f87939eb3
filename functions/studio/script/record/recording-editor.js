/** The recording: waveform, trimmed part, findings, transcript. */

import { byId, fill, make } from "../page/element.js";
import { began, ended, playButton } from "../page/player.js";
import { state, updateRecording, watch } from "../page/state.js";
import { text } from "../page/text.js";
import { timecode } from "../page/times.js";
import { showWaveform } from "../takes/waveform.js";
import { checkRecording } from "./recording-checks.js";
import { showTrimHandles } from "./trim-handles.js";
import { wavOf } from "./wav.js";

/** @typedef {import("../page/state.js").Recording} Recording */
/** @typedef {import("../page/state.js").Finding} Finding */

const ID = "recording";
const play = playButton(ID, text("player.recording"), playPart);
const transcript = byId("transcript", HTMLTextAreaElement);
const position = byId("recording-at", HTMLElement);

/** @type {ReturnType<typeof showWaveform> | null} */
let waveform = null;
let url = "";

export function showRecordingEditor() {
  byId("recording-play", HTMLElement).replaceWith(play);
  transcript.addEventListener("input", () => changed({ transcript: transcript.value }));
  watch((now) => (now.reference?.kind === "recording" ? now.reference.samples : null), showSamples);
  watch((now) => (now.reference?.kind === "recording" ? now.reference.findings : null), showFindings);
  watch((now) => (now.reference?.kind === "recording" ? now.reference.trim : null), showLength);
}

function showSamples() {
  waveform?.destroy();
  URL.revokeObjectURL(url);
  waveform = null;
  ended(ID);
  if (state.reference?.kind !== "recording") return;
  const { samples, rate, trim, transcript: said } = state.reference;
  const seconds = samples.length / rate;
  transcript.value = said;
  transcript.maxLength = state.limits.transcription_max_chars;
  url = URL.createObjectURL(wavOf(samples, rate));
  // Another watcher shows the panel. Before that, a waveform has no width.
  window.requestAnimationFrame(() => {
    const shown = showWaveform(byId("recording-wave", HTMLElement), { url, samples, seconds });
    waveform = shown;
    shown.on("play", () => began({ id: ID, pause: () => shown.pause() }));
    shown.on("pause", () => ended(ID));
    shown.on("timeupdate", showPosition);
    showTrimHandles(byId("trim", HTMLElement), seconds, trim, (part) => changed({ trim: part }));
  });
}

/** @param {Partial<Pick<Recording, "trim" | "transcript">>} changes */
function changed(changes) {
  if (state.reference?.kind !== "recording") return;
  const { samples, rate, trim, transcript: said } = { ...state.reference, ...changes };
  const part = samples.subarray(Math.floor(trim.start * rate), Math.ceil(trim.end * rate));
  const findings = checkRecording(part, rate, state.limits, said);
  updateRecording({ ...changes, findings, sessionId: null });
}

function playPart() {
  if (!waveform || state.reference?.kind !== "recording") return;
  const { start, end } = state.reference.trim;
  const now = waveform.getCurrentTime();
  if (now < start || now >= end) waveform.setTime(start);
  void waveform.play();
}

/** @param {number} now */
function showPosition(now) {
  if (state.reference?.kind !== "recording") return;
  const { start, end } = state.reference.trim;
  position.textContent = timecode(Math.max(0, Math.min(now, end) - start));
  if (now >= end && waveform?.isPlaying()) waveform.pause();
}

/** @param {Finding[] | null} findings */
function showFindings(findings) {
  const items = (findings ?? []).map(({ level, text: sentence }) =>
    make("li", { data: { level } }, sentence),
  );
  fill(byId("findings", HTMLElement), ...items);
}

/** @param {{start: number, end: number} | null} trim */
function showLength(trim) {
  if (trim) byId("recording-length", HTMLElement).textContent = timecode(trim.end - trim.start);
}

/** @returns {boolean} Whether the voice in use can be sent. */
export function isUsable() {
  const { reference } = state;
  return (
    reference?.kind === "voice" || (!!reference && reference.findings.every(({ level }) => level !== "stop"))
  );
}
