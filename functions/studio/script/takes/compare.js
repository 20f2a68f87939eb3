/** The comparison of two takes: switches between them at the same position, and names their differences. */

import { fill, make } from "../page/element.js";
import { state, update, watch } from "../page/state.js";
import { text } from "../page/text.js";
import { OPTION_NAMES, shownValue } from "./option-names.js";

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
    else fill(this.place, make("p", {}, text("compare.second")));
  }

  /**
   * @param {TakeCard} a
   * @param {TakeCard} b
   */
  showBoth(a, b) {
    const swap = make(
      "button",
      { type: "button", class: "key", onclick: () => this.swap() },
      text("compare.switch"),
    );
    const end = make(
      "button",
      { type: "button", class: "quiet", onclick: () => update({ compared: [] }) },
      text("compare.end"),
    );
    fill(this.place, make("p", {}, differences(a.take, b.take)), swap, end);
  }

  /** Continue with the other take, at the same share of its length. */
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
 * @returns {string} Such as `Language: German (A), Auto (B)`.
 */
function differences(a, b) {
  const pair = (/** @type {string} */ name, /** @type {string} */ ofA, /** @type {string} */ ofB) =>
    `${name}: ${ofA} (A), ${ofB} (B)`;
  const differing = OPTION_NAMES.filter((name) => a.options[name] !== b.options[name]);
  const pairs = differing.map((name) =>
    pair(text(`option.${name}`), shownValue(a.options, name), shownValue(b.options, name)),
  );
  if (a.speaker !== b.speaker) pairs.unshift(pair(text("voice.title"), a.speaker, b.speaker));
  return pairs.length ? pairs.join(" · ") : text("compare.same");
}
