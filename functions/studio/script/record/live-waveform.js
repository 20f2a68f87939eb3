/** A waveform that grows to the right during a recording or a stream. */

import { decibels, rootMeanSquare } from "./levels.js";

const FLOOR_DB = -50;
const BAR = 2;
const GAP = 2;

export class LiveWaveform {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {number} seconds  Of sound in each bar.
   */
  constructor(canvas, seconds = 0.06) {
    this.canvas = canvas;
    this.seconds = seconds;
    this.clear();
  }

  clear() {
    /** @type {number[]} */
    this.bars = [];
    this.draw();
  }

  /**
   * @param {Float32Array} block
   * @param {number} rate
   */
  add(block, rate) {
    const size = Math.max(1, Math.round(rate * this.seconds));
    for (let start = 0; start < block.length; start += size) {
      this.bars.push(rootMeanSquare(block.subarray(start, start + size)));
    }
    this.draw();
  }

  draw() {
    const { canvas, bars } = this;
    const scale = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0) return;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.scale(scale, scale);
    context.fillStyle = getComputedStyle(canvas).color;
    const places = Math.floor(width / (BAR + GAP));
    const shown = bars.slice(-places);
    for (let i = 0; i < places; i++) {
      const bar = shown[i];
      context.globalAlpha = bar === undefined ? 0.3 : 1;
      const level = bar === undefined ? 0 : 1 - decibels(bar) / FLOOR_DB;
      const tall = Math.max(2, Math.min(1, level * 1.3) * height);
      context.fillRect(i * (BAR + GAP), (height - tall) / 2, BAR, tall);
    }
  }
}
