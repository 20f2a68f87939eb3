/** The takes, the newest first; one of them is heard at a time. */

import { byId } from "../page/element.js";
import { announce, showError } from "../page/notice.js";
import { state, update, watch } from "../page/state.js";
import { samplesOf } from "../record/wav.js";
import { ComparedTakes } from "./compare.js";
import { expire, onAudioPiece, speakAgain } from "./generation.js";
import { StreamPlayer } from "./stream-player.js";
import { TakeCard } from "./take-card.js";

/** @typedef {import("../page/state.js").Take} Take */

const list = byId("takes", HTMLOListElement);
const player = new StreamPlayer();
/** @type {Map<string, TakeCard>} */
const cards = new Map();
/** Takes that play by themselves: as they come, or once they are whole. */
const awaited = new Set();
/** Those of them of which something has been heard. */
const streamed = new Set();

/** @returns {() => void} To be called while the button to speak is pressed. */
export function showTakes() {
  const compared = new ComparedTakes(byId("compare", HTMLElement), (id) => cards.get(id));
  watch((now) => now.takes, showAll);
  watch(
    (now) => now.compared,
    (ids) => compared.show(ids),
  );
  list.addEventListener("take-loaded", (event) =>
    loaded(/** @type {CustomEvent<TakeCard>} */ (event).detail),
  );
  onAudioPiece(playPiece);
  window.setInterval(tick, 1000);
  return prepareToPlay;
}

/** Let what is asked for now be heard, and nothing else. */
function prepareToPlay() {
  player.wake();
  player.stop();
  awaited.clear();
}

/** @param {Take[]} takes */
function showAll(takes) {
  for (const [id, card] of cards) if (!takes.some((take) => take.id === id)) removeCard(id, card);
  takes.forEach((take, place) => {
    const card = cards.get(take.id) ?? addCard(take);
    if (list.children[place] !== card.element) list.insertBefore(card.element, list.children[place] ?? null);
    if (card.take !== take) changed(card, take);
  });
  byId("takes-none", HTMLElement).hidden = takes.length > 0;
  byId("takes-count", HTMLElement).textContent = takes.length ? String(takes.length) : "";
}

/** @param {Take} take */
function addCard(take) {
  const card = new TakeCard(take, { onPlay: pauseOthers, onCompare: toggleCompared, onAgain: again });
  cards.set(take.id, card);
  if (take.status === "sending") awaited.add(take.id);
  return card;
}

/** @param {Take} take */
function again(take) {
  prepareToPlay();
  void speakAgain(take).catch(showError);
}

/**
 * @param {string} id
 * @param {TakeCard} card
 */
function removeCard(id, card) {
  card.unload();
  card.element.remove();
  cards.delete(id);
}

/**
 * @param {TakeCard} card
 * @param {Take} take
 */
function changed(card, take) {
  const { status } = card.take;
  card.show(take);
  if (status === take.status) return;
  if (take.status === "ready") announce(`Take ${take.number} is ready.`);
  if (take.status === "failed") announce(`Take ${take.number} failed: ${take.error}`);
}

/** @param {TakeCard} card */
function loaded(card) {
  if (awaited.delete(card.take.id) && !streamed.delete(card.take.id)) card.toggle();
}

/**
 * @param {Take} take
 * @param {Record<string, any>} data
 */
function playPiece(take, data) {
  const card = cards.get(take.id);
  if (!card) return;
  const samples = samplesOf(data.audio);
  if (data.isAnew) card.live.clear();
  card.live.add(samples, data.sample_rate);
  if (!awaited.has(take.id)) return;
  if (data.isAnew) player.stop();
  player.add(samples, data.sample_rate);
  streamed.add(take.id);
}

/** @param {TakeCard} playing */
function pauseOthers(playing) {
  player.stop();
  for (const card of cards.values()) if (card !== playing) card.waveform?.pause();
}

/** @param {string} id */
function toggleCompared(id) {
  const others = state.compared.filter((one) => one !== id);
  update({ compared: others.length < state.compared.length ? others : [...others.slice(-1), id] });
}

function tick() {
  for (const { take } of cards.values()) {
    if (take.status === "ready" && take.expiresAt && take.expiresAt <= Date.now()) expire(take.id);
  }
  for (const card of cards.values()) card.tick();
}
