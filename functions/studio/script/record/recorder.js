/** The recorder: records from the microphone, and reads files. */

import { byId, onFile } from "../page/element.js";
import { announce, showError } from "../page/notice.js";
import { pause } from "../page/player.js";
import { state, update, watch } from "../page/state.js";
import { text } from "../page/text.js";
import { timecode } from "../page/times.js";
import { goodPart } from "./good-part.js";
import { LevelMeter } from "./level-meter.js";
import { LiveWaveform } from "./live-waveform.js";
import { listen } from "./microphone.js";
import { checkRecording } from "./recording-checks.js";
import { decode } from "./wav.js";

/** @typedef {"idle" | "opening" | "counting" | "recording"} Phase */

const COUNT_FROM = 3;
const COUNT_MS = 700;
const PART_SECONDS = 15; // of a file that is too long

/** @type {Record<import("./level-meter.js").Warning, import("../page/text.js").TextKey>} */
const WARNINGS = { ok: "record.recording", clipped: "record.clipped", silent: "record.silent" };
/** @type {Record<Exclude<Phase, "recording">, import("../page/text.js").TextKey>} */
const HINTS = { idle: "record.idle", opening: "record.opening", counting: "record.counting" };

const recorder = byId("recorder", HTMLElement);
const key = byId("record", HTMLButtonElement);
const label = byId("record-label", HTMLElement);
const countdown = byId("record-count", HTMLElement);
const time = byId("recorder-time", HTMLElement);
const hint = byId("recorder-hint", HTMLElement);
const meter = new LevelMeter(byId("level-meter", HTMLElement), byId("level", HTMLMeterElement), (warning) =>
  warn(warning),
);
const live = new LiveWaveform(byId("live-waveform", HTMLCanvasElement));

/** @type {Awaited<ReturnType<typeof listen>> | null} */
let microphone = null;
let attempt = 0; // changes when a recording ends, so that one that is still starting stops
let recorded = 0; // seconds
/** @type {() => string} */
let readingText = () => "";

/** @param {() => string} reading  Returns the sentence to read. */
export function showRecorder(reading) {
  readingText = reading;
  setPhase("idle");
  key.addEventListener("click", () => void press().catch(stopWith));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && phase() !== "idle") void stopCapture();
  });
  onFile("file", (file) => void take(file));
  acceptDrops();
  // Another voice or view hides the recorder.
  watch(
    (now) => now.reference !== null || now.view !== "studio" || now.access === "wanted",
    (isHidden) => isHidden && void stopCapture(),
  );
}

/** @returns {Phase} */
function phase() {
  return /** @type {Phase} */ (recorder.dataset.recorder);
}

/** @param {Phase} now */
function setPhase(now) {
  recorder.dataset.recorder = now;
  label.textContent = text(now === "idle" ? "record.start" : "record.stop");
  hint.textContent = text(now === "recording" ? WARNINGS[meter.warning] : HINTS[now]);
}

async function press() {
  if (phase() === "idle") await start();
  else if (phase() === "recording") await finish();
  else await stopCapture();
}

async function start() {
  pause(); // or the microphone hears it
  setPhase("opening");
  meter.reset();
  recorder.dataset.warning = meter.warning;
  const mine = ++attempt;
  const opened = await listen(heard);
  if (mine !== attempt) return void opened.end();
  microphone = opened;
  setPhase("counting");
  for (let left = COUNT_FROM; left > 0; left--) {
    countdown.textContent = String(left);
    announce(String(left));
    await new Promise((resolve) => window.setTimeout(resolve, COUNT_MS));
    if (mine !== attempt) return;
  }
  recorded = 0;
  live.clear();
  microphone.begin();
  setPhase("recording");
}

/** @param {Float32Array} block */
function heard(block) {
  if (!microphone) return;
  meter.hear(block, microphone.rate);
  live.add(block, microphone.rate); // also before the recording, so that the user sees the level
  if (phase() !== "recording") return;
  recorded += block.length / microphone.rate;
  time.textContent = timecode(recorded);
  recorder.style.setProperty("--spent", String(Math.min(1, recorded / state.limits.reference_max_seconds)));
  if (recorded >= state.limits.reference_max_seconds) void finish();
}

/** @param {import("./level-meter.js").Warning} warning */
function warn(warning) {
  recorder.dataset.warning = warning;
  if (phase() === "recording") hint.textContent = text(WARNINGS[warning]);
}

async function finish() {
  const ended = await stopCapture();
  if (ended) use(ended.samples, ended.rate, readingText());
}

/** @param {unknown} error */
async function stopWith(error) {
  await stopCapture();
  showError(error);
}

/** @returns {Promise<{samples: Float32Array, rate: number} | null>} What was recorded. */
async function stopCapture() {
  attempt++;
  const held = microphone;
  microphone = null;
  setPhase("idle");
  time.textContent = timecode(0);
  recorder.style.setProperty("--spent", "0");
  meter.reset();
  live.clear();
  return held && { samples: await held.end(), rate: held.rate };
}

/** @param {File} file */
async function take(file) {
  await stopCapture();
  try {
    const { samples, rate } = await decode(await file.arrayBuffer());
    use(samples, rate, "");
  } catch {
    showError(new Error(text("file.unreadable", { name: file.name })));
  }
}

/**
 * @param {Float32Array} samples
 * @param {number} rate
 * @param {string} transcript
 */
function use(samples, rate, transcript) {
  const isTooLong = samples.length / rate > state.limits.reference_max_seconds;
  const trim = isTooLong ? goodPart(samples, rate, PART_SECONDS) : { start: 0, end: samples.length / rate };
  const part = samples.subarray(Math.floor(trim.start * rate), Math.ceil(trim.end * rate));
  const findings = checkRecording(part, rate, state.limits, transcript);
  update({ reference: { kind: "recording", samples, rate, trim, findings, transcript, sessionId: null } });
  // The button that was pressed is hidden now.
  byId(transcript ? "voice-title" : "transcript", HTMLElement).focus();
}

/** Accept files anywhere on the page: a browser would open those that are dropped beside the panel. */
function acceptDrops() {
  const panel = byId("voice", HTMLElement);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    panel.classList.add("is-over");
  });
  document.addEventListener("dragleave", () => panel.classList.remove("is-over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    panel.classList.remove("is-over");
    const [file] = event.dataTransfer?.files ?? [];
    if (file && state.view === "studio") void take(file);
  });
}
