/** Two handles over a waveform, moved by pointer or key. The part between them is used. */

import { make } from "../page/element.js";
import { text } from "../page/text.js";
import { timecode } from "../page/times.js";

const STEP = 0.05; // seconds
const STRIDE = 0.5;
const LEAST = 0.2;

/** @typedef {{start: number, end: number}} Trim */
/** @typedef {"start" | "end"} Side */

/**
 * @param {HTMLElement} place  Lies over the waveform.
 * @param {number} seconds
 * @param {Trim} trim
 * @param {(trim: Trim) => void} onChange
 */
export function showTrimHandles(place, seconds, trim, onChange) {
  const now = { ...trim };
  /** @param {Side} side */
  const handle = (side) => {
    const name = text(side === "start" ? "trim.start" : "trim.end");
    return make("div", { class: `handle handle-${side}`, role: "slider", tabIndex: 0, "aria-label": name });
  };
  const handles = { start: handle("start"), end: handle("end") };

  const show = () => {
    place.style.setProperty("--start", `${(100 * now.start) / seconds}%`);
    place.style.setProperty("--end", `${100 - (100 * now.end) / seconds}%`);
    for (const side of /** @type {Side[]} */ (["start", "end"])) {
      const element = handles[side];
      element.setAttribute("aria-valuemin", "0");
      element.setAttribute("aria-valuemax", seconds.toFixed(2));
      element.setAttribute("aria-valuenow", now[side].toFixed(2));
      element.setAttribute("aria-valuetext", timecode(now[side]));
    }
  };
  /**
   * @param {Side} side
   * @param {number} wanted
   */
  const move = (side, wanted) => {
    if (side === "start") now.start = Math.max(0, Math.min(wanted, now.end - LEAST));
    else now.end = Math.min(seconds, Math.max(wanted, now.start + LEAST));
    show();
    onChange({ ...now });
  };
  for (const side of /** @type {Side[]} */ (["start", "end"])) {
    followKeys(
      handles[side],
      () => now[side],
      seconds,
      (wanted) => move(side, wanted),
    );
    followPointer(handles[side], place, seconds, (wanted) => move(side, wanted));
  }
  place.replaceChildren(
    make("div", { class: "outside outside-start" }),
    make("div", { class: "outside outside-end" }),
  );
  place.append(handles.start, handles.end);
  show();
}

/**
 * @param {HTMLElement} handle
 * @param {() => number} where
 * @param {number} seconds
 * @param {(wanted: number) => void} move
 */
function followKeys(handle, where, seconds, move) {
  handle.addEventListener("keydown", (event) => {
    /** @type {Record<string, number>} */
    const wanted = {
      ArrowLeft: where() - (event.shiftKey ? STRIDE : STEP),
      ArrowRight: where() + (event.shiftKey ? STRIDE : STEP),
      ArrowDown: where() - STEP,
      ArrowUp: where() + STEP,
      PageDown: where() - STRIDE,
      PageUp: where() + STRIDE,
      Home: 0,
      End: seconds,
    };
    const to = wanted[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(to);
  });
}

/**
 * @param {HTMLElement} handle
 * @param {HTMLElement} place
 * @param {number} seconds
 * @param {(wanted: number) => void} move
 */
function followPointer(handle, place, seconds, move) {
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.stopPropagation();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const { left, width } = place.getBoundingClientRect();
    move(((event.clientX - left) / width) * seconds);
  });
}
