/** The page: everything is shown, then the service is asked. */

import { askForAccess } from "./api-key.js";
import { showCodeButtons } from "./code-dialog.js";
import { fill, icon } from "./element.js";
import { closeDialogs } from "./form-dialog.js";
import { findJobsAgain, hear } from "./generation.js";
import { closeMenusElsewhere } from "./menu.js";
import { showError, showLimits } from "./notice.js";
import { showOperators } from "./operators.js";
import { showSaveDialog } from "./save-dialog.js";
import { showSavedVoices } from "./saved-voices.js";
import { requestJson } from "./service.js";
import { keepOpen, openNow } from "./socket.js";
import { state, update } from "./state.js";
import { showStatusLight } from "./status-light.js";
import { storeTakes } from "./stored-takes.js";
import { showTakes } from "./takes.js";
import { showTextPanel } from "./text-panel.js";
import { showVoicePanel } from "./voice-panel.js";
import { loadVoices } from "./voices.js";

for (const button of document.querySelectorAll("button.code")) fill(button, icon("code"));

showLimits();
showStatusLight();
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
