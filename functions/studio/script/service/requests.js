import { state, update } from "../page/state.js";
import { text } from "../page/text.js";

/** Where the service is: the folder that the page came from. */
export const BASE = new URL(".", document.baseURI);

/** An error response, with the message of the service. */
export class Problem extends Error {
  /**
   * @param {number} status  0 when there was no answer.
   * @param {string} code
   * @param {string} message
   * @param {number | null} retryAfter  Seconds.
   */
  constructor(status, code, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/**
 * @typedef {object} Ask
 * @property {string} [method]
 * @property {unknown} [json]
 * @property {FormData} [form]
 * @property {Record<string, string>} [headers]
 * @property {string} [key]  In place of the one of this tab.
 */

/**
 * Send a request; the answer, when it is a success.
 *
 * @param {string} path  Without a slash before it.
 * @param {Ask} [ask]
 * @returns {Promise<Response>}
 * @throws {Problem}
 */
export async function request(path, ask = {}) {
  const answer = await send(path, ask);
  if (answer.ok) return answer;
  const problem = await problemOf(answer);
  if (answer.status === 401 && ask.key === undefined) update({ access: "wanted" });
  if (answer.status === 429) noteLimit(problem);
  throw problem;
}

/**
 * @param {string} path
 * @param {Ask} [ask]
 * @returns {Promise<any>}
 * @throws {Problem}
 */
export async function requestJson(path, ask) {
  return (await request(path, ask)).json();
}

/**
 * @param {string} path
 * @param {Ask} ask
 */
async function send(path, ask) {
  const headers = new Headers(ask.headers);
  const key = ask.key ?? state.key;
  if (key) headers.set("Authorization", `Bearer ${key}`);
  if (ask.json !== undefined) headers.set("Content-Type", "application/json");
  const body = ask.form ?? (ask.json === undefined ? undefined : JSON.stringify(ask.json));
  try {
    return await fetch(new URL(path, BASE), {
      method: ask.method ?? "GET",
      headers,
      body,
      cache: "no-store",
    });
  } catch {
    throw new Problem(0, "offline", text("error.offline"));
  }
}

/**
 * @param {Response} answer
 * @returns {Promise<Problem>}
 */
async function problemOf(answer) {
  const retryAfter = Number(answer.headers.get("Retry-After")) || null;
  try {
    const { code, detail } = await answer.json();
    return new Problem(answer.status, String(code), String(detail), retryAfter);
  } catch {
    return new Problem(answer.status, "error", text("error.status", { status: answer.status }), retryAfter);
  }
}

/** @param {Problem} problem */
function noteLimit(problem) {
  const until = problem.retryAfter === null ? null : Date.now() + problem.retryAfter * 1000;
  update({ limit: { text: problem.message, until } });
}

/**
 * @param {unknown} error
 * @returns {string} A message for the user.
 */
export function sentenceOf(error) {
  if (error instanceof Problem) return error.message;
  return error instanceof Error ? error.message : String(error);
}
