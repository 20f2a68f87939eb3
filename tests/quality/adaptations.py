"""Compare the adaptations of the hibari engine: none, pitch only, and all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile as sf

from gpu_runner.engines.hibari.prompt import ReferenceAnalysis
from gpu_runner.engines.hibari.stock_voice import BINS, SAMPLE_RATE, Adaptation, StockVoice
from pipeline.audio.reference_audio import Recording
from tests.quality.sentences import Reference, Sentence
from tests.quality.synthesis import Item, cut, item


def speak_adapted(sentences: Sequence[Sentence], references: Sequence[Reference], folder: Path) -> list[Item]:
    """Speak the sentences with each adaptation to each reference, without the service; write WAV files."""
    voice = StockVoice()
    analysis = ReferenceAnalysis(voice)
    items = []
    for reference in references:
        samples, rate = sf.read(cut(reference, folder), dtype="float32")
        prompt = analysis.measure(Recording(samples, rate))
        adaptations = {
            "none": None,
            "pitch": Adaptation(prompt.pitch, 1.0, np.zeros(BINS, np.float32)),
            "pitch, warp and correction": prompt.adaptation,
        }
        for number, (adaptation, applied) in enumerate(adaptations.items()):
            for sentence in sentences:
                noise = np.random.default_rng(1)
                parts = [voice.synthesize(ids, applied, noise) for ids in voice.phonemes(sentence.text)]
                path = folder / f"{reference.name}-{number}-{sentence.name}.wav"
                sf.write(path, np.concatenate(parts), SAMPLE_RATE)
                run = f"{reference.name}: {adaptation}"
                items.append(item(sentence, reference, path, "English") | {"run": run})
    return items
