/**
 * The state of the page, in one place. Only the functions of this module change it. Modules watch the part that they
 * show.
 *
 * @typedef {{code: string, level: "stop" | "warn" | "good", text: string}} Finding
 *
 * @typedef {"studio" | "verify" | "operators"} View
 *
 * @typedef {object} Recording  A recording that is not saved as a voice, with the findings of its checks.
 * @property {"recording"} kind
 * @property {Float32Array} samples  Mono.
 * @property {number} rate  Hz.
 * @property {{start: number, end: number}} trim  Seconds.
 * @property {Finding[]} findings  About the part between the handles.
 * @property {string} transcript
 * @property {string | null} sessionId  The session of its upload, as it is now.
 *
 * @typedef {object} SavedVoice  As the service describes it.
 * @property {string} voice_id
 * @property {string} name
 * @property {string} description
 * @property {string} created_at
 * @property {number | null} duration_seconds
 * @property {{text: string, given_at: string} | null} [consent]
 *
 * @typedef {{kind: "voice", voice: SavedVoice}} VoiceInUse
 * @typedef {Recording | VoiceInUse} Reference
 *
 * @typedef {Record<string, string | number>} Options
 *
 * @typedef {"sending" | "queued" | "speaking" | "fetching" | "ready" | "failed" | "cancelled" | "expired"} TakeStatus
 *
 * @typedef {object} Take  A text that a voice was asked to say.
 * @property {string} id
 * @property {number} number
 * @property {TakeStatus} status
 * @property {string} text
 * @property {string} speaker
 * @property {string | null} sessionId
 * @property {string | null} voiceId
 * @property {Options} options  Without the seed.
 * @property {number} seed
 * @property {string | null} jobId
 * @property {number} askedAt  Milliseconds since the epoch.
 * @property {number | null} ahead  Jobs before it in the queue.
 * @property {number} heard  Seconds that have come in so far.
 * @property {{attempt: string | null, seq: number}} last  The last piece that came in, and of which attempt.
 * @property {number | null} duration  Seconds.
 * @property {number | null} expiresAt  When the service deletes it, in milliseconds since the epoch.
 * @property {string | null} url  For the player.
 * @property {Blob | null} audio  The WAV. It is kept in this browser.
 * @property {string[]} warnings
 * @property {string | null} error
 *
 * @typedef {{text: string, until: number | null}} Limit  A used-up quota, and when it is renewed.
 *
 * @typedef {object} Limits  Of this service.
 * @property {number} reference_min_seconds
 * @property {number} reference_max_seconds
 * @property {number} text_max_chars
 * @property {number} transcription_max_chars
 * @property {number} preview_retention_minutes
 *
 * @typedef {{name: string, clones: boolean, label: string, notice?: string}} Engine
 *
 * @typedef {object} EngineStart  The engine of a worker that is starting.
 * @property {"downloading" | "loading"} phase
 * @property {number} [bytes]
 * @property {number} [total_bytes]
 * @property {number} [remaining_seconds]
 * @property {string} [error]
 *
 * @typedef {object} State
 * @property {View} view
 * @property {string} key
 * @property {"unknown" | "open" | "wanted" | "given"} access
 * @property {"connecting" | "live" | "asking" | "lost"} connection  `asking`: without a socket, by polling.
 * @property {string | null} worker  As `/health` says.
 * @property {Engine | null} engine  As `/health` says.
 * @property {EngineStart | null} engineStart  As `/health` says.
 * @property {boolean} streams  Whether the service streams, as far as is known.
 * @property {Limits} limits
 * @property {Reference | null} reference
 * @property {Take[]} takes  The newest first.
 * @property {string[]} compared  Ids of at most two takes.
 * @property {string | null} playing  Id of the sound that is heard.
 * @property {SavedVoice[] | null} voices  Null until they have been read.
 * @property {Limit | null} limit
 */

/** @type {State} */
export const state = {
  view: "studio",
  key: "",
  access: "unknown",
  connection: "connecting",
  worker: null,
  engine: null,
  engineStart: null,
  streams: true,
  limits: {
    reference_min_seconds: 1,
    reference_max_seconds: 60,
    text_max_chars: 4096,
    transcription_max_chars: 4096,
    preview_retention_minutes: 20,
  },
  reference: null,
  takes: [],
  compared: [],
  playing: null,
  voices: null,
  limit: null,
};

/** @type {Set<() => void>} */
const watchers = new Set();

/** @param {Partial<State>} changes */
export function update(changes) {
  Object.assign(state, changes);
  for (const notify of [...watchers]) notify();
}

/**
 * Show a part of the state now and after each change.
 *
 * @template Part
 * @param {(state: State) => Part} select
 * @param {(part: Part) => void} show
 */
export function watch(select, show) {
  let shown = select(state);
  watchers.add(() => {
    const now = select(state);
    if (Object.is(now, shown)) return;
    shown = now;
    show(now);
  });
  show(shown);
}

/** @param {Partial<Recording>} changes */
export function updateRecording(changes) {
  if (state.reference?.kind === "recording") update({ reference: { ...state.reference, ...changes } });
}

/**
 * @param {string} id
 * @param {Partial<Take>} changes
 */
export function updateTake(id, changes) {
  update({ takes: state.takes.map((take) => (take.id === id ? { ...take, ...changes } : take)) });
}

/**
 * @param {string} id
 * @returns {Take | undefined}
 */
export function takeOf(id) {
  return state.takes.find((take) => take.id === id);
}

/**
 * @param {TakeStatus} status
 * @returns {boolean} Whether the take is not complete yet.
 */
export function isUnderWay(status) {
  return status === "sending" || status === "queued" || status === "speaking" || status === "fetching";
}
