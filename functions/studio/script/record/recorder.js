/** The recorder: records from the microphone, and takes files. */

import { byId } from "../page/element.js";
import { announce, showError } from "../page/notice.js";
import { state, update } from "../page/state.js";
import { timecode } from "../page/times.js";
import { LevelMeter } from "./level-meter.js";
import { LiveWaveform } from "./live-waveform.js";
import { listen } from "./microphone.js";
import { checkRecording } from "./recording-checks.js";
import { decode } from "./wav.js";

/** @typedef {"idle" | "opening" | "counting" | "recording"} Phase */

const COUNT_FROM = 3;
const COUNT_MS = 700;
const IDLE_HINT = "Press, wait for the count, and read. Press again when you are done.";

/** @type {Record<import("./level-meter.js").Warning, string>} */
const WARNINGS = {
  ok: "Recording. Press again when you are done.",
  clipped: "Too loud: it is clipping. Step back a little.",
  silent: "Nothing is heard. Is this the right microphone?",
};

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
let recorded = 0; // seconds
/** @type {() => string} */
let readingText = () => "";

/** @param {() => string} reading  Gives the sentence that is offered for reading. */
export function showRecorder(reading) {
  readingText = reading;
  setPhase("idle");
  key.addEventListener("click", () => void press().catch(stopWith));
  const file = byId("file", HTMLInputElement);
  file.addEventListener("change", () => {
    const [chosen] = file.files ?? [];
    file.value = "";
    if (chosen) void take(chosen);
  });
  acceptDrops(byId("voice", HTMLElement));
}

/** @returns {Phase} */
function phase() {
  return /** @type {Phase} */ (recorder.dataset.recorder);
}

/** @param {Phase} now */
function setPhase(now) {
  recorder.dataset.recorder = now;
  label.textContent = now === "idle" ? "Record" : "Stop";
  if (now === "idle") hint.textContent = IDLE_HINT;
  if (now === "opening") hint.textContent = "Allow the microphone, if the browser asks.";
  if (now === "counting") hint.textContent = "Get ready.";
  if (now === "recording") hint.textContent = WARNINGS[meter.warning];
}

async function press() {
  if (phase() === "idle") await start();
  else if (phase() === "recording") await finish();
  else if (phase() === "counting") await abandon();
}

async function start() {
  setPhase("opening");
  meter.reset();
  recorder.dataset.warning = meter.warning;
  microphone = await listen(heard);
  setPhase("counting");
  for (let left = COUNT_FROM; left > 0; left--) {
    countdown.textContent = String(left);
    announce(String(left));
    await new Promise((resolve) => window.setTimeout(resolve, COUNT_MS));
    if (phase() !== "counting") return;
  }
  recorded = 0;
  microphone.begin();
  setPhase("recording");
}

/** @param {Float32Array} block */
function heard(block) {
  if (!microphone) return;
  meter.hear(block, microphone.rate);
  if (phase() !== "recording") return;
  live.add(block, microphone.rate);
  recorded += block.length / microphone.rate;
  time.textContent = timecode(recorded);
  recorder.style.setProperty("--spent", String(Math.min(1, recorded / state.limits.reference_max_seconds)));
  if (recorded >= state.limits.reference_max_seconds) void finish();
}

/** @param {import("./level-meter.js").Warning} warning */
function warn(warning) {
  recorder.dataset.warning = warning;
  if (phase() === "recording") hint.textContent = WARNINGS[warning];
}

async function finish() {
  const ended = await stopCapture();
  if (!ended) return;
  use(ended.samples, ended.rate, readingText());
}

async function abandon() {
  await stopCapture();
}

/** @param {unknown} error */
async function stopWith(error) {
  await stopCapture();
  showError(error);
}

/** @returns {Promise<{samples: Float32Array, rate: number} | null>} */
async function stopCapture() {
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
  try {
    const { samples, rate } = await decode(await file.arrayBuffer());
    use(samples, rate, "");
  } catch {
    showError(new Error(`“${file.name}” can’t be read as sound. Choose a WAV, FLAC, OGG, MP3 or M4A file.`));
  }
}

/**
 * @param {Float32Array} samples
 * @param {number} rate
 * @param {string} transcript
 */
function use(samples, rate, transcript) {
  const trim = { start: 0, end: samples.length / rate };
  const findings = checkRecording(samples, rate, state.limits);
  update({ reference: { kind: "recording", samples, rate, trim, findings, transcript, sessionId: null } });
}

/** @param {HTMLElement} target */
function acceptDrops(target) {
  const over = (/** @type {boolean} */ is) => target.classList.toggle("is-over", is);
  target.addEventListener("dragover", (event) => {
    event.preventDefault();
    over(true);
  });
  target.addEventListener("dragleave", () => over(false));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    const [file] = event.dataTransfer?.files ?? [];
    if (file) void take(file);
  });
}
