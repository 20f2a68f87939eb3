/** The level of the microphone, and warnings about it. */

import { decibels, rootMeanSquare } from "./levels.js";

const FLOOR_DB = -60;
const FALL_DB = 1.5; // a block: the light falls slower than the voice
const CLIPPED = 0.985;
const CLIP_SECONDS = 1.5;
const SILENT_DB = -50;
const SILENT_SECONDS = 2;

/** @typedef {"ok" | "clipped" | "silent"} Warning */

export class LevelMeter {
  shown = FLOOR_DB; // dBFS
  clippedFor = 0; // seconds
  silentFor = 0;
  /** @type {Warning} */
  warning = "ok";

  /**
   * @param {HTMLElement} bars  Its `--level` is from 0 to 1.
   * @param {HTMLMeterElement} meter  The same for who can't see it.
   * @param {(warning: Warning) => void} onWarning  Told when there is another one.
   */
  constructor(bars, meter, onWarning) {
    this.bars = bars;
    this.meter = meter;
    this.onWarning = onWarning;
    this.reset();
  }

  reset() {
    this.shown = FLOOR_DB;
    this.clippedFor = 0;
    this.silentFor = 0;
    this.warning = "ok";
    this.show();
  }

  /**
   * @param {Float32Array} block
   * @param {number} rate
   */
  hear(block, rate) {
    const peak = block.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    const seconds = block.length / rate;
    this.shown = Math.max(decibels(peak), this.shown - FALL_DB, FLOOR_DB);
    this.clippedFor = peak >= CLIPPED ? CLIP_SECONDS : Math.max(0, this.clippedFor - seconds);
    this.silentFor = decibels(rootMeanSquare(block)) < SILENT_DB ? this.silentFor + seconds : 0;
    this.show();
    this.warn();
  }

  show() {
    const level = 1 - this.shown / FLOOR_DB;
    this.bars.style.setProperty("--level", level.toFixed(3));
    this.meter.value = level;
  }

  warn() {
    const now = this.clippedFor > 0 ? "clipped" : this.silentFor > SILENT_SECONDS ? "silent" : "ok";
    if (now === this.warning) return;
    this.warning = now;
    this.onWarning(now);
  }
}
