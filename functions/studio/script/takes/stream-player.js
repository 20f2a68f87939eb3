/** Plays a take during its synthesis. */

import { began, ended } from "../page/player.js";

const LEAD_SECONDS = 0.15;

export class StreamPlayer {
  /** @type {AudioContext | null} */
  context = null;
  /** @type {Set<AudioBufferSourceNode>} */
  sounding = new Set();
  /** @type {string | null} The take. */
  id = null;
  isPaused = false;
  next = 0; // when the next chunk starts
  added = 0; // seconds

  /** Call this in the handler of a press: browsers start sound only then. */
  wake() {
    this.context ??= new AudioContext();
    void this.context.resume();
  }

  /**
   * Play a chunk after the chunks before it.
   *
   * @param {string} id  The take.
   * @param {Float32Array<ArrayBuffer>} samples
   * @param {number} rate
   */
  add(id, samples, rate) {
    if (!this.context || samples.length === 0) return;
    if (this.id !== id) this.stop();
    this.id = id;
    const { context } = this;
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(context.destination);
    source.onended = () => this.finished(source);
    const now = context.currentTime;
    // A late chunk starts a little later, so that the next one is in time.
    if (this.next < now) this.next = now + LEAD_SECONDS;
    source.start(this.next);
    this.next += buffer.duration;
    this.added += buffer.duration;
    this.sounding.add(source);
    if (!this.isPaused) began({ id, pause: () => this.pause() });
  }

  /** @returns {number} Seconds that have been heard. */
  get position() {
    return Math.max(0, this.added - Math.max(0, this.next - (this.context?.currentTime ?? 0)));
  }

  /** @param {AudioBufferSourceNode} source */
  finished(source) {
    if (!this.sounding.delete(source)) return;
    if (this.sounding.size === 0 && this.id) ended(this.id);
  }

  pause() {
    this.isPaused = true;
    void this.context?.suspend();
    if (this.id) ended(this.id);
  }

  /**
   * @param {string} id
   * @returns {boolean} Whether there is a rest of this take to play.
   */
  resume(id) {
    if (this.id !== id || this.sounding.size === 0) return false;
    this.isPaused = false;
    began({ id, pause: () => this.pause() });
    void this.context?.resume();
    return true;
  }

  /** Drop the rest. */
  stop() {
    const { id } = this;
    const dropped = [...this.sounding];
    this.sounding.clear();
    for (const source of dropped) source.stop();
    this.id = null;
    this.isPaused = false;
    this.next = 0;
    this.added = 0;
    void this.context?.resume();
    if (id) ended(id);
  }
}
