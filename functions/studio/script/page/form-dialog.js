/** Dialogs with a form. They stay open and show the error if the request fails. */

import { sentenceOf } from "../service/requests.js";
import { byId } from "./element.js";

/**
 * @param {string} name  The dialog is `NAME-dialog`, its place for errors `NAME-wrong`.
 * @param {() => Promise<HTMLElement | void>} act  Sends the form. Returns the element that gets the focus afterwards.
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
      const next = await act();
      dialog.close();
      next?.focus();
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

/** @typedef {{title: string, what: string, submit: string, act: () => Promise<HTMLElement | void>}} Question */

/** @type {Question | null} */
let asked = null;
let openQuestion = () => {};

/** Let the buttons that only close a dialog do so. */
export function showDialogs() {
  openQuestion = formDialog("confirm", async () => asked?.act());
  for (const button of document.querySelectorAll("dialog [data-close]")) {
    button.addEventListener("click", () => button.closest("dialog")?.close());
  }
}

/**
 * Ask before something is lost.
 *
 * @param {Question} question
 */
export function confirm(question) {
  asked = question;
  byId("confirm-title", HTMLElement).textContent = question.title;
  byId("confirm-what", HTMLElement).textContent = question.what;
  byId("confirm-submit", HTMLButtonElement).textContent = question.submit;
  openQuestion();
}
