/** The WebSocket to the service: opened with a ticket where keys are wanted, and opened again when it breaks. */

import { state, update } from "../page/state.js";
import { BASE, Problem, request, requestJson } from "./requests.js";

/** @typedef {{type: string, data: Record<string, any>}} Message */

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 4000; // a lost service is found again soon after its start

/** @type {WebSocket | null} */
let socket = null;
let pause = FIRST_PAUSE;
let hasBeenOpen = false;
let address = new URL("ws", BASE);
let again = 0;

/** @type {(message: Message) => void} */
let hear = () => {};
/** @type {() => void} */
let opened = () => {};

/**
 * Prepare a connection that is kept open. `openNow` opens it.
 *
 * @param {object} events
 * @param {string | null} events.url  Where the service has its sockets; null where the page is.
 * @param {(message: Message) => void} events.onMessage
 * @param {() => void} events.onOpen  Each time it has been opened.
 */
export function keepOpen({ url, onMessage, onOpen }) {
  if (url) address = new URL(url);
  address.protocol = address.protocol.replace("http", "ws");
  hear = onMessage;
  opened = onOpen;
  window.addEventListener("online", openNow);
}

/** Open it without waiting for the next try, as with a new key. */
export function openNow() {
  window.clearTimeout(again);
  pause = FIRST_PAUSE;
  socket?.close();
  void open();
}

/**
 * Send a message, if there is a connection.
 *
 * @param {string} type
 * @param {Record<string, unknown>} data
 * @returns {boolean} Whether it was sent.
 */
export function say(type, data) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify({ type, data }));
  return true;
}

async function open() {
  if (state.access === "wanted" || state.access === "unknown") return;
  try {
    await request("health");
    const to = new URL(address);
    if (state.access === "given") to.searchParams.set("ticket", await ticket());
    attach(new WebSocket(to));
  } catch (error) {
    update({ connection: error instanceof Problem && error.status > 0 ? "asking" : "lost" });
    openLater();
  }
}

/** @returns {Promise<string>} */
async function ticket() {
  return (await requestJson("ws-tickets", { method: "POST" })).ticket;
}

/** @param {WebSocket} opening */
function attach(opening) {
  socket = opening;
  opening.onopen = () => {
    hasBeenOpen = true;
    pause = FIRST_PAUSE;
    update({ connection: "live" });
    opened();
  };
  opening.onmessage = (event) => hear(JSON.parse(event.data));
  opening.onclose = () => {
    if (socket !== opening) return;
    socket = null;
    update({ connection: hasBeenOpen ? "lost" : "asking" });
    openLater();
  };
}

function openLater() {
  window.clearTimeout(again);
  again = window.setTimeout(open, pause);
  pause = Math.min(pause * 2, LONGEST_PAUSE);
}
