"""Chromium plays files with manifests."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.studio.browser import chromium
from tests.unit.pipeline.marking.test_manifest import MEDIA_TYPES, SPEECH, signed

_PLAY = """async ([url]) => {
  const player = new Audio(url);
  await new Promise((resolve, reject) => {
    player.oncanplaythrough = resolve;
    player.onerror = () => reject(new Error(player.error.message));
    player.load();
  });
  const bytes = await (await fetch(url)).arrayBuffer();
  const decoded = await new OfflineAudioContext(1, 1, 24000).decodeAudioData(bytes);
  return [player.duration, decoded.duration];
}"""


@pytest.mark.slow
@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_chromium_plays_signed_file(name: str, tmp_path: Path) -> None:
    url = f"data:{MEDIA_TYPES[name]};base64,{b64encode(signed(name)).decode()}"
    with chromium(tmp_path) as browser:
        durations: list[Any] = browser.new_page().evaluate(_PLAY, [url])
    expected = 2.0 if name == "m4a" else SPEECH.duration_seconds
    assert durations == pytest.approx([expected, expected], abs=0.2)
