/** The deck: records from the microphone, and takes files. */

import { byId } from "./element.js";
import { LevelMeter } from "./level-meter.js";
import { listen } from "./microphone.js";
import { announce, complain } from "./notice.js";
import { judge } from "./recording-verdict.js";
import { state, update } from "./state.js";
import { Tape } from "./tape.js";
import { timecode } from "./times.js";
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

const deck = byId("deck", HTMLElement);
const key = byId("record", HTMLButtonElement);
const label = byId("record-label", HTMLElement);
const countdown = byId("record-count", HTMLElement);
const time = byId("deck-time", HTMLElement);
const hint = byId("deck-hint", HTMLElement);
const meter = new LevelMeter(byId("ladder", HTMLElement), byId("level", HTMLMeterElement), (warning) =>
  warn(warning),
);
const tape = new Tape(byId("tape", HTMLCanvasElement));

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
  return /** @type {Phase} */ (deck.dataset.deck);
}

/** @param {Phase} now */
function setPhase(now) {
  deck.dataset.deck = now;
  label.textContent = now === "idle" ? "Record" : "Stop";
  if (now === "idle") hint.textContent = IDLE_HINT;
  if (now === "opening") hint.textContent = "Allow the microphone, if the browser asks.";
  if (now === "counting") hint.textContent = "Get ready.";
  if (now === "recording") hint.textContent = WARNINGS.ok;
}

async function press() {
  if (phase() === "idle") await start();
  else if (phase() === "recording") await finish();
  else if (phase() === "counting") await abandon();
}

async function start() {
  setPhase("opening");
  meter.reset();
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
  tape.add(block, microphone.rate);
  recorded += block.length / microphone.rate;
  time.textContent = timecode(recorded);
  deck.style.setProperty("--spent", String(Math.min(1, recorded / state.limits.reference_max_seconds)));
  if (recorded >= state.limits.reference_max_seconds) void finish();
}

/** @param {import("./level-meter.js").Warning} warning */
function warn(warning) {
  deck.dataset.warning = warning;
  if (phase() === "recording") hint.textContent = WARNINGS[warning];
}

async function finish() {
  const ended = await letGo();
  if (!ended) return;
  use(ended.samples, ended.rate, readingText());
}

async function abandon() {
  await letGo();
}

/** @param {unknown} error */
async function stopWith(error) {
  await letGo();
  complain(error);
}

/** @returns {Promise<{samples: Float32Array, rate: number} | null>} */
async function letGo() {
  const held = microphone;
  microphone = null;
  setPhase("idle");
  time.textContent = timecode(0);
  deck.style.setProperty("--spent", "0");
  meter.reset();
  tape.clear();
  return held && { samples: await held.end(), rate: held.rate };
}

/** @param {File} file */
async function take(file) {
  try {
    const { samples, rate } = await decode(await file.arrayBuffer());
    use(samples, rate, "");
  } catch {
    complain(new Error(`“${file.name}” can’t be read as sound. Choose a WAV, FLAC, OGG, MP3 or M4A file.`));
  }
}

/**
 * @param {Float32Array} samples
 * @param {number} rate
 * @param {string} transcript
 */
function use(samples, rate, transcript) {
  const trim = { start: 0, end: samples.length / rate };
  const findings = judge(samples, rate, state.limits);
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
