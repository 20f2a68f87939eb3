/** The first view: the recorder, the status and the access. The rest of the page is loaded after it. */

import { showAppearance } from "./page/appearance.js";
import { engineOf, showEngine } from "./page/engine.js";
import { showDialogs } from "./page/form-dialog.js";
import { showError, showNotices } from "./page/notice.js";
import { showPlayer } from "./page/player.js";
import { state, update } from "./page/state.js";
import { showStatusLight } from "./page/status-light.js";
import { showViews } from "./page/views.js";
import { showReadingPrompt } from "./record/reading-prompt.js";
import { showRecorder } from "./record/recorder.js";
import { askForAccess } from "./service/api-key.js";
import { requestJson } from "./service/requests.js";
import { keepOpen, openNow } from "./service/socket.js";

showAppearance();
showViews();
showNotices();
showPlayer();
showDialogs();
update({ engine: engineOf(document.documentElement.dataset.engine ?? "") });
showEngine();
showRecorder(showReadingPrompt());
showStatusLight();

const loading = import("./rest.js");
const settings = requestJson("studio/settings.json").catch(() => ({}));
const complete = finish();
await askForAccess(async () => {
  const rest = await complete;
  openNow();
  await rest.loadVoices().catch(showError);
}).catch(showError);

/** Show the rest of the page, and prepare the socket. */
async function finish() {
  const { websocket_url: url, ...limits } = await settings;
  update({ limits: { ...state.limits, ...limits } });
  const rest = await loading;
  await rest.showRest();
  keepOpen({ url: url ?? null, onMessage: rest.hear, onOpen: rest.findJobsAgain });
  return rest;
}
