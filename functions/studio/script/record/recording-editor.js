/** What has been recorded: its waveform, where it is trimmed, what is good or bad about it, what is said in it. */

import { byId, fill, icon, make } from "../page/element.js";
import { state, updateRecording, watch } from "../page/state.js";
import { timecode } from "../page/times.js";
import { showWaveform } from "../takes/waveform.js";
import { checkRecording } from "./recording-checks.js";
import { showTrimHandles } from "./trim-handles.js";
import { wavOf } from "./wav.js";

/** @typedef {import("../page/state.js").Recording} Recording */
/** @typedef {import("../page/state.js").Finding} Finding */

const play = byId("recording-play", HTMLButtonElement);
const transcript = byId("transcript", HTMLTextAreaElement);

/** @type {ReturnType<typeof showWaveform> | null} */
let waveform = null;
let url = "";

export function showRecordingEditor() {
  play.addEventListener("click", () => playPart());
  transcript.addEventListener("input", () =>
    updateRecording({ transcript: transcript.value, sessionId: null }),
  );
  watch((now) => (now.reference?.kind === "recording" ? now.reference.samples : null), showSamples);
  watch((now) => (now.reference?.kind === "recording" ? now.reference.findings : null), showFindings);
  watch((now) => (now.reference?.kind === "recording" ? now.reference.trim : null), showLength);
}

function showSamples() {
  waveform?.destroy();
  URL.revokeObjectURL(url);
  waveform = null;
  if (state.reference?.kind !== "recording") return;
  const { samples, rate, trim, transcript: said } = state.reference;
  const seconds = samples.length / rate;
  transcript.value = said;
  transcript.maxLength = state.limits.transcription_max_chars;
  url = URL.createObjectURL(wavOf(samples, rate));
  // The panel is shown by another watcher; a waveform has no width before that.
  window.requestAnimationFrame(() => {
    waveform = showWaveform(byId("recording-wave", HTMLElement), { url, samples, seconds });
    waveform.on("play", () => showButton(true));
    waveform.on("pause", () => showButton(false));
    waveform.on("timeupdate", (now) => stopAtEnd(now));
    showTrimHandles(byId("trim", HTMLElement), seconds, trim, trimmed);
  });
  showButton(false);
}

/** @param {{start: number, end: number}} trim */
function trimmed(trim) {
  if (state.reference?.kind !== "recording") return;
  const { samples, rate } = state.reference;
  const part = samples.subarray(Math.floor(trim.start * rate), Math.ceil(trim.end * rate));
  updateRecording({ trim, findings: checkRecording(part, rate, state.limits), sessionId: null });
}

function playPart() {
  if (!waveform || state.reference?.kind !== "recording") return;
  if (waveform.isPlaying()) {
    waveform.pause();
    return;
  }
  waveform.setTime(state.reference.trim.start);
  void waveform.play();
}

/** @param {number} now */
function stopAtEnd(now) {
  if (state.reference?.kind === "recording" && now >= state.reference.trim.end) waveform?.pause();
}

/** @param {boolean} isPlaying */
function showButton(isPlaying) {
  fill(play, icon(isPlaying ? "pause" : "play"));
  play.setAttribute("aria-label", isPlaying ? "Pause the recording" : "Play the recording");
}

/** @param {Finding[] | null} findings */
function showFindings(findings) {
  const items = (findings ?? []).map(({ level, text }) => make("li", { data: { level } }, text));
  fill(byId("findings", HTMLElement), ...items);
}

/** @param {{start: number, end: number} | null} trim */
function showLength(trim) {
  if (trim) byId("recording-length", HTMLElement).textContent = timecode(trim.end - trim.start);
}

/** @returns {boolean} Whether the recording in use can be sent as it is. */
export function isUsable() {
  const { reference } = state;
  return (
    reference?.kind === "voice" || (!!reference && reference.findings.every(({ level }) => level !== "stop"))
  );
}
