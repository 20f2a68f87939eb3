/** In the audio thread: passes on the samples of the microphone in blocks. */

const BLOCK = 2048;
/** The samples of a microphone that is muted or not open yet. */
const SILENCE = new Float32Array(128);

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(BLOCK);
    this.filled = 0;
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    this.take(inputs[0]?.[0] ?? SILENCE);
    return true;
  }

  /** @param {Float32Array} heard */
  take(heard) {
    this.block.set(heard, this.filled);
    this.filled += heard.length;
    if (this.filled < BLOCK) return;
    this.port.postMessage(this.block, [this.block.buffer]);
    this.block = new Float32Array(BLOCK);
    this.filled = 0;
  }
}

registerProcessor("microphone", Microphone);
