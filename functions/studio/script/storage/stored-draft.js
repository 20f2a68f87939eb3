/** Keeps the recording, the voice in use and the text in this browser, so that a reload loses nothing. */

import { byId } from "../page/element.js";
import { state, update, watch } from "../page/state.js";
import { keep, kept } from "./database.js";

const PAUSE_MS = 300;

const words = byId("text", HTMLTextAreaElement);

/** Restore the draft, and keep it from now on. */
export async function storeDraft() {
  const [reference, said] = await Promise.all([kept("draft", "reference"), kept("draft", "text")]).catch(
    () => [],
  );
  if (reference && !state.reference) update({ reference: { ...reference, sessionId: null } });
  if (said && !words.value) {
    words.value = said;
    words.dispatchEvent(new Event("input"));
  }
  let later = 0;
  watch(
    (now) => now.reference,
    (now) => {
      window.clearTimeout(later);
      later = window.setTimeout(() => write("reference", now ?? undefined), PAUSE_MS);
    },
  );
  words.addEventListener("input", () => write("text", words.value));
}

/**
 * @param {string} key
 * @param {unknown} value
 */
function write(key, value) {
  void keep("draft", key, value).catch(() => {});
}
