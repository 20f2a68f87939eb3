/** One take: its words, its sound, how it was spoken, and what can be done with it. */

import { showCode } from "../page/code-dialog.js";
import { downloadTake, FORMATS } from "../page/download.js";
import { fill, icon, make } from "../page/element.js";
import { engineLabel } from "../page/engine.js";
import { makeMenu } from "../page/menu.js";
import { showError } from "../page/notice.js";
import { isUnderWay } from "../page/state.js";
import { LiveWaveform } from "../record/live-waveform.js";
import { decode } from "../record/wav.js";
import { cancel, removeTake } from "./generation.js";
import { nameOf, OPTION_NAMES } from "./option-names.js";
import { sentenceFor, timeLeft } from "./take-status.js";
import { putInPanel } from "./text-panel.js";
import { showWaveform } from "./waveform.js";

/** @typedef {import("../page/state.js").Take} Take */

export class TakeCard {
  /** @type {ReturnType<typeof showWaveform> | null} */
  waveform = null;

  /**
   * @param {Take} take
   * @param {{onPlay: (card: TakeCard) => void, onCompare: (id: string) => void, onAgain: (take: Take) => void}} events
   */
  constructor(take, events) {
    this.take = take;
    this.events = events;
    this.play = make("button", { type: "button", class: "play", onclick: () => this.toggle() }, icon("play"));
    this.wave = make("div", { class: "waveform" });
    this.canvas = make("canvas", { class: "live-waveform", "aria-hidden": "true" });
    this.state = make("p", { class: "take-state" });
    this.left = make("span", { class: "take-left" });
    this.engine = make("span", { class: "take-engine" });
    this.warnings = make("ul", { class: "findings" });
    this.actions = make("div", { class: "take-actions" });
    this.compare = make(
      "button",
      { type: "button", class: "quiet", onclick: () => events.onCompare(take.id) },
      "Compare",
    );
    this.element = this.layOut();
    this.live = new LiveWaveform(this.canvas);
    this.show(take);
  }

  layOut() {
    const { take } = this;
    const remove = make(
      "button",
      {
        type: "button",
        class: "quiet bare",
        "aria-label": `Remove take ${take.number}`,
        onclick: () => removeTake(take.id),
      },
      icon("close"),
    );
    const sound = make(
      "div",
      { class: "take-sound" },
      this.play,
      make("div", { class: "take-wave" }, this.wave, this.canvas),
    );
    const head = make(
      "div",
      { class: "take-head" },
      make("h3", {}, make("span", { class: "sr" }, "Take "), take.number),
      make("p", { class: "take-text" }, take.text),
      remove,
    );
    const foot = make("div", { class: "take-foot" }, chipsOf(take), this.engine, this.left, this.actions);
    return make("li", { class: "take" }, head, sound, this.state, this.warnings, foot);
  }

  /** @param {Take} take */
  show(take) {
    const before = this.take;
    this.take = take;
    this.element.dataset.status = take.status;
    this.play.disabled = take.url === null;
    this.tick();
    fill(this.warnings, ...take.warnings.map((text) => make("li", { data: { level: "warn" } }, text)));
    if (before.status !== take.status || !this.actions.hasChildNodes()) this.showActions();
    if (take.url !== null && !this.waveform) void this.load();
    if (take.url === null && this.waveform) this.unload();
  }

  /** Show what changes with the time. */
  tick() {
    this.state.textContent = sentenceFor(this.take);
    this.left.textContent = timeLeft(this.take);
    this.engine.textContent = engineLabel();
  }

  showActions() {
    const { take } = this;
    const again = make(
      "button",
      { type: "button", class: "quiet", onclick: () => this.events.onAgain(take) },
      "Again",
    );
    const reuse = make(
      "button",
      { type: "button", class: "quiet", onclick: () => putInPanel(take.text, take.options) },
      "Edit",
    );
    const stop = make(
      "button",
      { type: "button", class: "quiet", onclick: () => void cancel(take).catch(showError) },
      "Stop",
    );
    const code = make(
      "button",
      {
        type: "button",
        class: "code",
        "aria-label": `Take ${take.number}: the code for it`,
        onclick: () => showCode("speak", this.take),
      },
      icon("code"),
    );
    const isReady = take.status === "ready";
    fill(
      this.actions,
      isUnderWay(take.status) && stop,
      isReady && this.compare,
      isReady && this.downloads(),
      !isUnderWay(take.status) && again,
      reuse,
      code,
    );
  }

  downloads() {
    const { take } = this;
    /** @type {[string, () => void][]} */
    const items = FORMATS.map((format) => [
      format.toUpperCase(),
      () => void downloadTake(take.jobId ?? "", format, `take-${take.number}`).catch(showError),
    ]);
    return makeMenu("Download", `Download take ${take.number}`, items);
  }

  async load() {
    const { url, audio, duration, number } = this.take;
    if (!url) return;
    const decoded = audio ? await decode(await audio.arrayBuffer()) : null;
    if (this.take.url !== url) return;
    const seconds = decoded ? decoded.samples.length / decoded.rate : (duration ?? 0);
    this.waveform = showWaveform(this.wave, { url, samples: decoded?.samples ?? null, seconds });
    this.waveform.on("play", () => {
      this.events.onPlay(this);
      this.showPlaying(true);
    });
    this.waveform.on("pause", () => this.showPlaying(false));
    this.waveform.on("finish", () => this.showPlaying(false));
    this.play.setAttribute("aria-label", `Play take ${number}`);
    this.element.dispatchEvent(new CustomEvent("take-loaded", { bubbles: true, detail: this }));
  }

  unload() {
    this.waveform?.destroy();
    this.waveform = null;
    this.showPlaying(false);
  }

  toggle() {
    void this.waveform?.playPause();
  }

  /** @param {boolean} isPlaying */
  showPlaying(isPlaying) {
    fill(this.play, icon(isPlaying ? "pause" : "play"));
    this.element.classList.toggle("is-playing", isPlaying);
    this.play.setAttribute("aria-label", `${isPlaying ? "Pause" : "Play"} take ${this.take.number}`);
  }

  /** @param {string} letter  A or B while it is compared, else nothing. */
  mark(letter) {
    this.element.dataset.letter = letter;
    this.compare.textContent = letter ? `Compared as ${letter}` : "Compare";
    this.compare.setAttribute("aria-pressed", String(letter !== ""));
  }
}

/** @param {Take} take */
function chipsOf({ speaker, options }) {
  const given = OPTION_NAMES.filter((name) => options[name] !== undefined);
  const chips = given.map((name) =>
    make("li", {}, name === "language" ? "" : `${nameOf(name)} `, options[name]),
  );
  return make("ul", { class: "chips", "aria-label": "How it was spoken" }, make("li", {}, speaker), ...chips);
}
