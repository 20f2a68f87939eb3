/** The page: everything is shown, then the service is asked. */

import { showOperators } from "./operators.js";
import { showCodeButtons } from "./page/code-dialog.js";
import { fill, icon } from "./page/element.js";
import { showEngine } from "./page/engine.js";
import { closeDialogs } from "./page/form-dialog.js";
import { closeMenusElsewhere } from "./page/menu.js";
import { showError, showLimits } from "./page/notice.js";
import { state, update } from "./page/state.js";
import { showStatusLight } from "./page/status-light.js";
import { askForAccess } from "./service/api-key.js";
import { requestJson } from "./service/requests.js";
import { keepOpen, openNow } from "./service/socket.js";
import { findJobsAgain, hear } from "./takes/generation.js";
import { storeTakes } from "./takes/stored-takes.js";
import { showTakes } from "./takes/takes.js";
import { showTextPanel } from "./takes/text-panel.js";
import { showSaveDialog } from "./voices/save-dialog.js";
import { showSavedVoices } from "./voices/saved-voices.js";
import { showVoicePanel } from "./voices/voice-panel.js";
import { loadVoices } from "./voices/voices.js";

for (const button of document.querySelectorAll("button.code")) fill(button, icon("code"));

showLimits();
showStatusLight();
showEngine();
showVoicePanel();
showTextPanel(showTakes());
showSaveDialog();
showSavedVoices();
showCodeButtons();
showOperators();
closeDialogs();
closeMenusElsewhere();
storeTakes();

const { websocket_url: url, ...limits } = await requestJson("studio/settings.json").catch(() => ({}));
update({ limits: { ...state.limits, ...limits } });
keepOpen({ url: url ?? null, onMessage: hear, onOpen: findJobsAgain });
await askForAccess(() => {
  openNow();
  void loadVoices().catch(showError);
}).catch(showError);
