/** One take: its text, audio, state and actions. */

import { fill, icon, make } from "../page/element.js";
import { engineLabel } from "../page/engine.js";
import { makeMenu } from "../page/menu.js";
import { showError } from "../page/notice.js";
import { began, ended, playButton } from "../page/player.js";
import { isUnderWay } from "../page/state.js";
import { text } from "../page/text.js";
import { timecode, timeOfDay } from "../page/times.js";
import { LiveWaveform } from "../record/live-waveform.js";
import { decode } from "../record/wav.js";
import { downloadTake, FORMATS } from "./download.js";
import { cancel, removeTake } from "./follow.js";
import { summaryOf } from "./option-names.js";
import { keptAs, sentenceFor } from "./take-status.js";
import { lockSeed, putInPanel } from "./text-panel.js";
import { showWaveform } from "./waveform.js";

/** @typedef {import("../page/state.js").Take} Take */
/** @typedef {{onPlay: (card: TakeCard) => void, onCompare: (id: string) => void, onAgain: (take: Take) => void}} Events */

export class TakeCard {
  /** @type {ReturnType<typeof showWaveform> | null} */
  waveform = null;
  letter = "";
  position = make("span", {}, timecode(0));
  wave = make("div", { class: "waveform" });
  canvas = make("canvas", { class: "live-waveform", "aria-hidden": "true" });
  state = make("p", { class: "take-state" });
  facts = make("p", { class: "take-facts" });
  warnings = make("ul", { class: "findings" });
  actions = make("div", { class: "take-actions" });

  /**
   * @param {Take} take
   * @param {Events} events
   */
  constructor(take, events) {
    this.take = take;
    this.events = events;
    this.name = text("take.name", { number: take.number });
    this.play = playButton(take.id, this.name, () => events.onPlay(this));
    this.element = this.layOut();
    this.live = new LiveWaveform(this.canvas);
    this.show(take);
  }

  layOut() {
    const { take } = this;
    const head = make(
      "div",
      { class: "take-head" },
      make("h3", {}, this.name),
      make("p", { class: "take-text", title: take.text }, take.text),
    );
    const sound = make(
      "div",
      { class: "take-sound" },
      this.play,
      make("div", { class: "take-wave" }, this.wave, this.canvas),
    );
    const foot = make("div", { class: "take-foot" }, this.facts, this.actions);
    return make(
      "li",
      { class: "take", data: { take: take.id } },
      head,
      sound,
      this.state,
      this.warnings,
      foot,
    );
  }

  /** @param {Take} take */
  show(take) {
    const before = this.take;
    this.take = take;
    this.element.dataset.status = take.status;
    this.play.disabled = take.url === null && take.heard === 0;
    this.tick();
    fill(this.warnings, ...take.warnings.map((warning) => make("li", { data: { level: "warn" } }, warning)));
    if (before.status !== take.status || !this.actions.hasChildNodes()) this.showActions();
    if (take.url !== null && !this.waveform) void this.load();
    if (take.url === null && this.waveform) this.unload();
  }

  /** Show what changes with the time. */
  tick() {
    const { take } = this;
    this.state.textContent = sentenceFor(take);
    const facts = [
      take.speaker,
      engineLabel(),
      summaryOf(take.options),
      timeOfDay(take.askedAt),
      keptAs(take),
    ];
    const length =
      take.heard || take.duration ? [this.position, ` / ${timecode(take.duration ?? take.heard)} · `] : [];
    fill(this.facts, ...length, facts.filter(Boolean).join(" · "));
  }

  showActions() {
    const { take } = this;
    const button = (/** @type {string} */ label, /** @type {() => void} */ onclick) =>
      make(
        "button",
        { type: "button", class: "quiet", onclick, "aria-label": `${label}: ${this.name}` },
        label,
      );
    const stop = button(text("take.stop"), () => void cancel(take).catch(showError));
    const again = button(text("take.again"), () => this.events.onAgain(take));
    const download = button(text("take.download"), () => this.download("wav"));
    fill(
      this.actions,
      take.status === "ready" && download,
      isUnderWay(take.status) ? stop : again,
      makeMenu(icon("more"), text("menu.label", { name: this.name }), this.menuItems()),
    );
  }

  /** @returns {[string, () => void][]} */
  menuItems() {
    const { take } = this;
    const isReady = take.status === "ready";
    const compare = text(this.letter ? "take.compare_end" : "take.compare");
    return [
      .../** @type {[string, () => void][]} */ (
        isReady ? [[compare, () => this.events.onCompare(take.id)]] : []
      ),
      [text("take.edit"), () => putInPanel(take.text, take.options)],
      [text("take.use_seed", { seed: take.seed }), () => lockSeed(take.seed)],
      .../** @type {[string, () => void][]} */ (
        isReady && (take.expiresAt ?? 0) > Date.now()
          ? FORMATS.map((format) => [
              text("take.download_as", { format: format.toUpperCase() }),
              () => this.download(format),
            ])
          : []
      ),
      [text("take.remove"), () => removeTake(take.id)],
    ];
  }

  /** @param {string} format */
  download(format) {
    void downloadTake(this.take, format).catch(showError);
  }

  async load() {
    const { url, audio, duration, id } = this.take;
    if (!url) return;
    const decoded = audio ? await decode(await audio.arrayBuffer()) : null;
    if (this.take.url !== url) return;
    const seconds = decoded ? decoded.samples.length / decoded.rate : (duration ?? 0);
    const waveform = showWaveform(this.wave, { url, samples: decoded?.samples ?? null, seconds });
    this.waveform = waveform;
    waveform.on("play", () => began({ id, pause: () => waveform.pause() }));
    waveform.on("pause", () => ended(id));
    waveform.on("finish", () => ended(id));
    waveform.on("timeupdate", (now) => this.showPosition(now));
    this.element.dispatchEvent(new CustomEvent("take-loaded", { bubbles: true, detail: this }));
  }

  unload() {
    this.waveform?.destroy();
    this.waveform = null;
    ended(this.take.id);
  }

  /** @param {number} seconds */
  showPosition(seconds) {
    this.position.textContent = timecode(seconds);
  }

  /** @param {string} letter  A or B while it is compared, otherwise empty. */
  mark(letter) {
    this.letter = letter;
    this.element.dataset.letter = letter;
    this.showActions();
  }
}
