/** The microphone, as it is: nothing that a browser does for calls is done to the voice. */

const AS_IT_IS = {
  channelCount: 1,
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
};

/**
 * Listen to the microphone.
 *
 * @param {(block: Float32Array) => void} onBlock  Given some 40 ms of samples at a time.
 * @returns {Promise<{rate: number, begin: () => void, end: () => Promise<Float32Array>}>}  `begin` starts to keep what
 *   is heard, `end` lets the microphone go and gives what was kept.
 * @throws {Error} With a sentence that says why there is no microphone.
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
    throw new Error(
      "Browsers give the microphone to pages on https or localhost only. You can choose a file instead.",
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: AS_IT_IS });
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
      return "The microphone is not allowed. Allow it in the browser's address bar, or choose a file.";
    case "NotFoundError":
      return "There is no microphone. Connect one, or choose a file.";
    case "NotReadableError":
      return "The microphone is used by another program. Close that, or choose a file.";
    default:
      return "The microphone could not be opened. You can choose a file instead.";
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
