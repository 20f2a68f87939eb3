/** Plays speech while it is still being made. */

const LEAD_SECONDS = 0.15;

export class StreamPlayer {
  constructor() {
    /** @type {AudioContext | null} */
    this.context = null;
    /** @type {Set<AudioBufferSourceNode>} */
    this.sounding = new Set();
    this.next = 0;
  }

  /** To be called while a button is being pressed: browsers let nothing else start sound. */
  wake() {
    this.context ??= new AudioContext();
    void this.context.resume();
  }

  /**
   * Play samples after those that came before.
   *
   * @param {Float32Array<ArrayBuffer>} samples
   * @param {number} rate
   */
  add(samples, rate) {
    if (!this.context || samples.length === 0) return;
    const { context } = this;
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(context.destination);
    source.onended = () => this.sounding.delete(source);
    const now = context.currentTime;
    // What comes too late starts a little later, so that the next piece is in time again.
    if (this.next < now) this.next = now + LEAD_SECONDS;
    source.start(this.next);
    this.next += buffer.duration;
    this.sounding.add(source);
  }

  /** @returns {boolean} Whether something is heard, or about to be. */
  get isPlaying() {
    return this.sounding.size > 0;
  }

  /** Drop what has not been heard yet. */
  stop() {
    for (const source of this.sounding) source.stop();
    this.sounding.clear();
    this.next = 0;
  }
}
