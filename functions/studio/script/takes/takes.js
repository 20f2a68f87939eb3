/** The takes, the newest first. */

import { byId, icon } from "../page/element.js";
import { confirm } from "../page/form-dialog.js";
import { makeMenu } from "../page/menu.js";
import { announce, showError } from "../page/notice.js";
import { pause } from "../page/player.js";
import { state, update, watch } from "../page/state.js";
import { text } from "../page/text.js";
import { samplesOf } from "../record/wav.js";
import { speakAgain } from "./ask.js";
import { ComparedTakes } from "./compare.js";
import { downloadAll } from "./download.js";
import { expire, onAudioPiece, removeTake } from "./follow.js";
import { StreamPlayer } from "./stream-player.js";
import { TakeCard } from "./take-card.js";
import { seedNow } from "./text-panel.js";

/** @typedef {import("../page/state.js").Take} Take */

const list = byId("takes", HTMLOListElement);
const player = new StreamPlayer();
/** @type {Map<string, TakeCard>} */
const cards = new Map();
/** Takes that play automatically, during synthesis or when complete. */
const awaited = new Set();
/** Those of them that were played during synthesis. */
const streamed = new Set();

/** @returns {() => void} Call this in the handler of the press that requests a take. */
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
  byId("takes-menu", HTMLElement).append(
    makeMenu(icon("more"), text("menu.label", { name: text("takes.title") }), [
      [text("takes.download_all"), () => void downloadAll(state.takes).catch(showError)],
      [text("takes.remove_all"), askToRemoveAll],
    ]),
  );
  onAudioPiece(playPiece);
  window.setInterval(tick, 1000);
  window.setInterval(showStreamPosition, 200);
  return prepareToPlay;
}

/** Play only the take that is requested now. */
function prepareToPlay() {
  pause();
  player.stop();
  player.wake();
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
  byId("takes-menu", HTMLElement).hidden = takes.length === 0;
  byId("takes-stored", HTMLElement).hidden = takes.length === 0;
  byId("takes-count", HTMLElement).textContent = takes.length ? String(takes.length) : "";
}

/** @param {Take} take */
function addCard(take) {
  const card = new TakeCard(take, { onPlay: play, onCompare: toggleCompared, onAgain: again });
  cards.set(take.id, card);
  if (take.status === "sending") awaited.add(take.id);
  return card;
}

/** @param {TakeCard} card */
function play(card) {
  if (!player.resume(card.take.id)) void card.waveform?.play();
}

/** @param {Take} take */
function again(take) {
  const seed = seedNow();
  if (seed === undefined) return;
  prepareToPlay();
  void speakAgain(take, seed).catch(showError);
}

/**
 * @param {string} id
 * @param {TakeCard} card
 */
function removeCard(id, card) {
  const hadFocus = card.element.contains(document.activeElement);
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  if (player.id === id) player.stop();
  card.unload();
  card.element.remove();
  cards.delete(id);
  if (hadFocus) (next?.querySelector("summary") ?? byId("takes-title", HTMLElement)).focus();
}

function askToRemoveAll() {
  confirm({
    title: text("takes.remove_all_title"),
    what: text("takes.remove_all_what"),
    submit: text("takes.remove_all"),
    act: async () => {
      for (const { id } of state.takes) removeTake(id);
      return byId("takes-title", HTMLElement);
    },
  });
}

/**
 * @param {TakeCard} card
 * @param {Take} take
 */
function changed(card, take) {
  const { status } = card.take;
  card.show(take);
  if (status === take.status) return;
  if (take.status === "ready") announce(text("take.is_ready", { name: card.name }));
  if (take.status === "failed") announce(`${card.name}: ${take.error}`);
}

/** @param {TakeCard} card */
function loaded(card) {
  const isAwaited = awaited.delete(card.take.id);
  if (isAwaited && !streamed.delete(card.take.id)) void card.waveform?.play();
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
  player.add(take.id, samples, data.sample_rate);
  streamed.add(take.id);
}

function showStreamPosition() {
  if (player.id !== null && state.playing === player.id && player.sounding.size > 0)
    cards.get(player.id)?.showPosition(player.position);
}

/** @param {string} id */
function toggleCompared(id) {
  const others = state.compared.filter((one) => one !== id);
  update({ compared: others.length < state.compared.length ? others : [...others.slice(-1), id] });
}

function tick() {
  for (const { take } of cards.values()) {
    if (take.status === "ready" && !take.audio && (take.expiresAt ?? Number.POSITIVE_INFINITY) <= Date.now())
      expire(take.id);
  }
  for (const card of cards.values()) card.tick();
}
