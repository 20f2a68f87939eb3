/** The parts of the page that are needed once there is a recording, a voice or a key. */

import { closeMenusElsewhere } from "./page/menu.js";
import { showReferenceCheck } from "./record/reference-check.js";
import { storeDraft } from "./storage/stored-draft.js";
import { storeTakes } from "./storage/stored-takes.js";
import { showTakes } from "./takes/takes.js";
import { showTextPanel } from "./takes/text-panel.js";
import { showSaveDialog } from "./voices/save-dialog.js";
import { showSavedVoices } from "./voices/saved-voices.js";
import { showVoicePanel } from "./voices/voice-panel.js";

export { findJobsAgain, hear } from "./takes/follow.js";
export { loadVoices } from "./voices/voices.js";

export async function showRest() {
  showVoicePanel();
  const prepareToPlay = showTakes();
  await storeTakes(); // before a take can be requested
  showTextPanel(prepareToPlay);
  showReferenceCheck();
  showSaveDialog();
  showSavedVoices();
  closeMenusElsewhere();
  await storeDraft();
  void showLessUsed();
}

async function showLessUsed() {
  const [code, operators, verify] = await Promise.all([
    import("./code/code-dialog.js"),
    import("./operators.js"),
    import("./verify.js"),
  ]);
  code.showCodeDialog();
  operators.showOperators();
  verify.showVerify();
}
