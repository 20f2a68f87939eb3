/** In the audio thread: hands on what the microphone hears, a block at a time. */

const BLOCK = 2048;
/** What a microphone that is muted, or not there yet, is taken to say. */
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
