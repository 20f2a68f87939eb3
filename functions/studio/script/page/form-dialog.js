/** Dialogs with a form, which stay open and say why when what they ask for is refused. */

import { sentenceOf } from "../service/requests.js";
import { byId } from "./element.js";

/**
 * @param {string} name  The dialog is `NAME-dialog`, its place for refusals `NAME-wrong`.
 * @param {() => Promise<void>} act  What its button does.
 * @returns {() => void} Opens it.
 */
export function formDialog(name, act) {
  const dialog = byId(`${name}-dialog`, HTMLDialogElement);
  const wrong = byId(`${name}-wrong`, HTMLElement);
  const submit = /** @type {HTMLButtonElement} */ (dialog.querySelector("[type=submit]"));
  dialog.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    submit.disabled = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      wrong.textContent = sentenceOf(error);
    } finally {
      submit.disabled = false;
    }
  });
  return () => {
    wrong.textContent = "";
    dialog.showModal();
  };
}

/** Let the buttons that only close do so. */
export function closeDialogs() {
  for (const button of document.querySelectorAll("dialog [data-close]")) {
    button.addEventListener("click", () => button.closest("dialog")?.close());
  }
}
