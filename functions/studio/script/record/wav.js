/** Samples to and from files. */

/** The rate of the model. A minute fits in the four megabytes that a cloud function accepts. */
const RATE = 24_000;
const HEADER_BYTES = 44;

/**
 * Decode a file of any kind that the browser knows, mixed to mono.
 *
 * @param {ArrayBuffer} bytes
 * @returns {Promise<{samples: Float32Array, rate: number}>}
 */
export async function decode(bytes) {
  const context = new OfflineAudioContext(1, 1, 48_000);
  const audio = await context.decodeAudioData(bytes);
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    const data = audio.getChannelData(channel);
    for (let i = 0; i < data.length; i++) samples[i] = at(samples, i) + at(data, i) / audio.numberOfChannels;
  }
  return { samples, rate: audio.sampleRate };
}

/**
 * Encode what lies between two moments as 16-bit mono WAV.
 *
 * @param {Float32Array} samples
 * @param {number} rate  Hz.
 * @param {number} start  Seconds.
 * @param {number} end  Seconds.
 * @returns {Promise<Blob>}
 */
export async function encode(samples, rate, start, end) {
  const part = samples.slice(Math.floor(start * rate), Math.ceil(end * rate));
  return wavOf(await resample(part, rate), RATE);
}

/**
 * @param {Float32Array} samples
 * @param {number} rate
 * @returns {Promise<Float32Array>} At the rate of what is sent.
 */
async function resample(samples, rate) {
  if (rate === RATE) return samples;
  const context = new OfflineAudioContext(1, Math.ceil((samples.length * RATE) / rate), RATE);
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.getChannelData(0).set(samples);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

/**
 * @param {Float32Array} samples
 * @param {number} rate
 * @returns {Blob}
 */
export function wavOf(samples, rate) {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + 2 * samples.length));
  writeHeader(view, rate, 2 * samples.length);
  for (let i = 0; i < samples.length; i++) {
    const value = Math.max(-1, Math.min(1, at(samples, i)));
    view.setInt16(HEADER_BYTES + 2 * i, Math.round(value * 32_767), true);
  }
  return new Blob([view.buffer], { type: "audio/wav" });
}

/**
 * @param {DataView} view
 * @param {number} rate
 * @param {number} bytes
 */
function writeHeader(view, rate, bytes) {
  /** @type {[number, string][]} */
  const names = [
    [0, "RIFF"],
    [8, "WAVE"],
    [12, "fmt "],
    [36, "data"],
  ];
  for (const [place, name] of names) {
    for (let i = 0; i < 4; i++) view.setUint8(place + i, name.charCodeAt(i));
  }
  view.setUint32(4, HEADER_BYTES - 8 + bytes, true);
  view.setUint32(16, 16, true); // bytes of the format
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true); // bytes a second
  view.setUint16(32, 2, true); // bytes a frame
  view.setUint16(34, 16, true); // bits a sample
  view.setUint32(40, bytes, true);
}

/**
 * @param {string} base64  Of 16-bit little-endian samples.
 * @returns {Float32Array<ArrayBuffer>}
 */
export function samplesOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const samples = new Float32Array(bytes.length >> 1);
  for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32_768;
  return samples;
}

/**
 * @param {Float32Array} samples
 * @param {number} i
 * @returns {number}
 */
function at(samples, i) {
  return samples[i] ?? 0;
}
