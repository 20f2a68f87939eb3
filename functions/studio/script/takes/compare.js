/** Two takes side by side: the same moment of one and the other, and where their options differ. */

import { fill, make } from "../page/element.js";
import { state, watch } from "../page/state.js";
import { nameOf, OPTION_NAMES } from "./option-names.js";

/** @typedef {import("./take-card.js").TakeCard} TakeCard */
/** @typedef {import("../page/state.js").Take} Take */

const LETTERS = ["A", "B"];

export class ComparedTakes {
  /**
   * @param {HTMLElement} place
   * @param {(id: string) => TakeCard | undefined} cardOf
   */
  constructor(place, cardOf) {
    this.place = place;
    this.cardOf = cardOf;
    /** @type {TakeCard[]} */
    this.cards = [];
    watch(
      (now) => now.takes,
      () => this.show(state.compared),
    );
  }

  /** @param {string[]} ids */
  show(ids) {
    const cards = ids.map((id) => this.cardOf(id)).filter((card) => card !== undefined);
    if (cards.length === this.cards.length && cards.every((card, i) => card === this.cards[i])) return;
    for (const card of this.cards) card.mark("");
    this.cards = cards;
    for (const [i, card] of cards.entries()) card.mark(LETTERS[i] ?? "");
    this.place.hidden = this.cards.length === 0;
    const [a, b] = this.cards;
    if (a && b) this.showBoth(a, b);
    else fill(this.place, make("p", {}, "Choose a second take to compare it with."));
  }

  /**
   * @param {TakeCard} a
   * @param {TakeCard} b
   */
  showBoth(a, b) {
    const swap = make(
      "button",
      { type: "button", class: "key", onclick: () => this.swap() },
      "Switch between A and B",
    );
    fill(this.place, make("p", {}, differences(a.take, b.take)), swap);
  }

  /** Go on with the other one, at the same share of its length. */
  swap() {
    const playing = this.cards.findIndex(({ waveform }) => waveform?.isPlaying());
    const from = this.cards[playing]?.waveform;
    const to = this.cards[playing === 0 ? 1 : 0]?.waveform;
    const share = from ? from.getCurrentTime() / from.getDuration() : 0;
    from?.pause();
    to?.setTime(share * to.getDuration());
    void to?.play();
  }
}

/**
 * @param {Take} a
 * @param {Take} b
 * @returns {string}
 */
function differences(a, b) {
  const differing = OPTION_NAMES.filter((name) => a.options[name] !== b.options[name]);
  const sides = differing.map((name) => `${nameOf(name)}: ${shown(a, name)} and ${shown(b, name)}`);
  if (a.speaker !== b.speaker) sides.unshift(`voice: ${a.speaker} and ${b.speaker}`);
  return sides.length
    ? `A and B differ in ${sides.join("; ")}.`
    : "A and B were spoken with the same options.";
}

/**
 * @param {Take} take
 * @param {string} name
 */
function shown(take, name) {
  return take.options[name] ?? "as usual";
}
