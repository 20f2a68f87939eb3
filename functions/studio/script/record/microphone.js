/** The microphone, without the processing that browsers apply to calls. */

import { text } from "../page/text.js";

const UNPROCESSED = {
  channelCount: 1,
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
};

/**
 * Listen to the microphone.
 *
 * @param {(block: Float32Array) => void} onBlock  Called with about 40 ms of samples at a time.
 * @returns {Promise<{rate: number, begin: () => void, end: () => Promise<Float32Array>}>}  `begin` starts to keep the
 *   samples, `end` releases the microphone and returns them.
 * @throws {Error} The message says why there is no microphone.
 */
export async function listen(onBlock) {
  const stream = await open();
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL("microphone-worklet.js", import.meta.url));
  const source = new MediaStreamAudioSourceNode(context, { mediaStream: stream });
  const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0, channelCount: 1 });
  /** @type {Float32Array[]} */
  const kept = [];
  let isKeeping = false;
  node.port.onmessage = ({ data }) => {
    if (isKeeping) kept.push(data);
    onBlock(data);
  };
  source.connect(node);
  return {
    rate: context.sampleRate,
    begin: () => {
      isKeeping = true;
    },
    end: async () => {
      for (const track of stream.getTracks()) track.stop();
      await context.close();
      return joined(kept);
    },
  };
}

/** @returns {Promise<MediaStream>} */
async function open() {
  if (!navigator.mediaDevices) {
    throw new Error(text("microphone.insecure"));
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: UNPROCESSED });
  } catch (error) {
    throw new Error(reasonOf(error));
  }
}

/**
 * @param {unknown} error
 * @returns {string}
 */
function reasonOf(error) {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
      return text("microphone.blocked");
    case "NotFoundError":
      return text("microphone.missing");
    case "NotReadableError":
      return text("microphone.busy");
    default:
      return text("microphone.failed");
  }
}

/**
 * @param {Float32Array[]} blocks
 * @returns {Float32Array}
 */
export function joined(blocks) {
  const all = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let place = 0;
  for (const block of blocks) {
    all.set(block, place);
    place += block.length;
  }
  return all;
}
