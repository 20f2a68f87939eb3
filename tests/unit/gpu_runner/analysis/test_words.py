"""Recognition of English words."""

from gpu_runner.analysis.words import recognize
from tests.unit.gpu_runner.analysis.conftest import Speak


def test_spoken_words_are_recognized(speak: Speak) -> None:
    recording = speak("My father went home to see the children.", 190)
    heard = set(recognize(recording.samples, recording.sample_rate).split())
    assert len(heard & {"my", "father", "went", "home", "to", "see", "the", "children"}) >= 6
