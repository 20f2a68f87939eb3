"""English speech recognition with the model in the package `pocketsphinx`."""

from collections.abc import Container
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from gpu_runner.analysis.audio import MODEL_RATE, at_model_rate
from pipeline.audio.reference_audio import Samples
from pipeline.marking.checkpoints import PackageMissing


def recognize(samples: Samples, sample_rate: int) -> str:
    """Return the English words of a recording, in lower case without punctuation.

    Noise and silence may be recognized as words too.

    Raises
    ------
    PackageMissing
        pocketsphinx is not installed.
    """
    decoder = new_decoder()
    process(decoder, at_model_rate(samples, sample_rate))
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


def new_decoder(**options: Any) -> Any:
    """Return a new decoder. It adapts to the recording, so each recording needs its own.

    Raises
    ------
    PackageMissing
        pocketsphinx is not installed.
    """
    return _pocketsphinx().Decoder(samprate=MODEL_RATE, loglevel="FATAL", **options)


def pronunciations(words: Container[str]) -> str:
    """Return the part of the English dictionary with these words.

    Raises
    ------
    PackageMissing
        pocketsphinx is not installed.
    """
    with Path(_pocketsphinx().get_model_path("en-us/cmudict-en-us.dict")).open() as lines:
        # Further pronunciations of a word are "word(2)", "word(3)".
        return "".join(line for line in lines if line.split(maxsplit=1)[0].partition("(")[0] in words)


def _pocketsphinx() -> Any:
    try:
        return import_module("pocketsphinx")
    except ModuleNotFoundError:
        raise PackageMissing("pocketsphinx") from None


def process(decoder: Any, samples: Samples) -> None:
    """Pass a whole recording at `MODEL_RATE` to a decoder."""
    decoder.start_utt()
    decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
