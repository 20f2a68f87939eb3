/** The page: everything is shown, then the service is asked. */

import { askForAccess } from "./access.js";
import { showCodeButtons } from "./code-dialog.js";
import { fill, icon } from "./element.js";
import { closeDialogs } from "./form-dialog.js";
import { showKeepVoice } from "./keep-voice.js";
import { keepTakes } from "./kept-takes.js";
import { showLamp } from "./lamp.js";
import { closeMenusElsewhere } from "./menu.js";
import { complain, showLimits } from "./notice.js";
import { showOperators } from "./operators.js";
import { requestJson } from "./service.js";
import { showShelf } from "./shelf.js";
import { keepOpen, openNow } from "./socket.js";
import { findJobsAgain, hear } from "./speaking.js";
import { state, update } from "./state.js";
import { showTakes } from "./takes.js";
import { showVoicePanel } from "./voice-panel.js";
import { readVoices } from "./voices.js";
import { showWordsPanel } from "./words-panel.js";

for (const button of document.querySelectorAll("button.code")) fill(button, icon("code"));

showLimits();
showLamp();
showVoicePanel();
showWordsPanel(showTakes());
showKeepVoice();
showShelf();
showCodeButtons();
showOperators();
closeDialogs();
closeMenusElsewhere();
keepTakes();

const { websocket_url: url, ...limits } = await requestJson("studio/settings.json").catch(() => ({}));
update({ limits: { ...state.limits, ...limits } });
keepOpen({ url: url ?? null, onMessage: hear, onOpen: findJobsAgain });
await askForAccess(() => {
  openNow();
  void readVoices().catch(complain);
}).catch(complain);
