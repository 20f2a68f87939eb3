"""Speaker embeddings with the network and weights of Resemblyzer 0.1.4 (Apache-2.0), in numpy.

The network is described in "Generalized End-to-End Loss for Speaker Verification" (arXiv:1710.10467): three LSTM
layers over mel spectrograms of 1.6 s, and a linear layer.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

import numpy as np

from gpu_runner.analysis.audio import MODEL_RATE, at_model_rate
from gpu_runner.analysis.mel import mel_spectrogram
from pipeline.audio.reference_audio import Recording, Samples, decode_wav
from pipeline.marking.checkpoints import PackageMissing, installed_file, read_checkpoint

SIZE = 256
HOP, WINDOW, BANDS = MODEL_RATE // 100, MODEL_RATE // 40, 40
PART_FRAMES = 160  # 1.6 s
STEP_FRAMES = 77  # 1.3 parts per second
LAST_PART_MIN = 0.75  # of its length, otherwise it is left out
QUIETEST_DB = -30.0  # quieter recordings are amplified to it
LEVEL_FRAME = 3 * MODEL_RATE // 100
SILENCE_DB = -25.0  # relative to the loudest frame
KEPT_FRAMES = 2  # of silence, before and after sound

Weights = Mapping[str, Samples]


def embed(samples: Samples, sample_rate: int) -> Samples:
    """Return the embedding of the speaker, of shape (256,), float32, with norm 1.

    Raises
    ------
    PackageMissing
        Resemblyzer is not installed.
    """
    return mean_embedding(embed_parts(without_silence(at_model_rate(samples, sample_rate))))


def similarity(a: Samples, b: Samples) -> float:
    """Return the cosine of two embeddings: about 0.5 to 0.75 for different speakers, above 0.8 for the same."""
    return float(np.dot(a, b))


def embed_wav(wav: bytes) -> Samples | None:
    """Return the embedding of a stored recording, or None if Resemblyzer is not installed."""
    recording = decode_wav(wav)
    with suppress(PackageMissing):
        return embed(recording.samples, recording.sample_rate)
    return None


def similarity_to(embedding: Samples, recording: Recording) -> float:
    """Return the similarity of the speaker of a recording to an embedding."""
    return similarity(embedding, embed(recording.samples, recording.sample_rate))


def without_silence(samples: Samples) -> Samples:
    """Return samples at `MODEL_RATE` without pauses: parts with silence have other embeddings.

    Resemblyzer uses webrtcvad instead. The embeddings of four readings have a cosine of at least 0.97 with those.
    """
    if len(samples) < LEVEL_FRAME:
        return samples
    frames = samples[: len(samples) // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    is_loud = power >= power.max() * 10 ** (SILENCE_DB / 10)
    near = np.convolve(is_loud, np.ones(2 * KEPT_FRAMES + 1))[KEPT_FRAMES:-KEPT_FRAMES]
    return np.concatenate(list(frames[near > 0.5]))


def embed_parts(samples: Samples) -> Samples:
    """Return the embeddings of overlapping parts of 1.6 s, of shape (parts, 256), for samples at `MODEL_RATE`.

    A part starts every 0.77 s. A shorter recording is one part, with silence at its end.

    Raises
    ------
    PackageMissing
        Resemblyzer is not installed.
    """
    return embed_mels(_mels_of_parts(_amplified(samples)), _weights())


def mean_embedding(parts: Samples) -> Samples:
    """Return the normalized mean of embeddings of shape (parts, 256)."""
    mean: Samples = _normalized(parts.mean(axis=0, keepdims=True)).ravel()
    return mean


def embed_mels(mels: Samples, weights: Weights) -> Samples:
    """Return the embeddings of mel spectrograms of shape (parts, frames, 40), of shape (parts, 256)."""
    hidden = mels.transpose(1, 0, 2)
    for layer in range(3):
        hidden = _lstm(hidden, weights, layer)
    linear = hidden[-1] @ weights["linear.weight"].T + weights["linear.bias"]
    return _normalized(np.maximum(linear, 0))


def _lstm(inputs: Samples, weights: Weights, layer: int) -> Samples:
    """Return the outputs of a layer for inputs of shape (frames, parts, channels)."""
    bias = weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]
    given = inputs @ weights[f"lstm.weight_ih_l{layer}"].T + bias
    recurrent = weights[f"lstm.weight_hh_l{layer}"].T
    hidden = cell = np.zeros((inputs.shape[1], SIZE), np.float32)
    outputs = np.empty((*inputs.shape[:2], SIZE), np.float32)
    for frame, gates in enumerate(given):
        gates += hidden @ recurrent
        into, keep, new, out = np.split(gates, 4, axis=1)
        cell = _sigmoid(keep) * cell + _sigmoid(into) * np.tanh(new)
        hidden = outputs[frame] = _sigmoid(out) * np.tanh(cell)
    return outputs


def _sigmoid(values: Samples) -> Samples:
    half: Samples = np.tanh(values * np.float32(0.5))
    return half * np.float32(0.5) + np.float32(0.5)


def _normalized(rows: Samples) -> Samples:
    # The network ends in a rectifier, so a row of zeros is possible.
    normalized: Samples = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-9))
    return normalized


def _mels_of_parts(samples: Samples) -> Samples:
    """Return mel spectrograms of shape (parts, PART_FRAMES, BANDS)."""
    frames = -(-(len(samples) + 1) // HOP)
    starts = list(range(0, max(1, frames - PART_FRAMES + STEP_FRAMES + 1), STEP_FRAMES))
    if len(starts) > 1 and (len(samples) / HOP - starts[-1]) / PART_FRAMES < LAST_PART_MIN:
        del starts[-1]
    end = (starts[-1] + PART_FRAMES) * HOP
    padded = np.pad(samples, (0, max(0, end - len(samples))))
    mel = mel_spectrogram(padded, MODEL_RATE, window=WINDOW, hop=HOP, bands=BANDS)
    return np.stack([mel[start : start + PART_FRAMES] for start in starts])


def _amplified(samples: Samples) -> Samples:
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    gain = 10 ** (QUIETEST_DB / 20) / max(level, 1e-9)
    return samples * np.float32(max(1.0, gain))


@lru_cache(1)
def _weights() -> Weights:
    weights: Weights = read_checkpoint(installed_file("Resemblyzer", "resemblyzer/pretrained.pt"))["model_state"]
    return weights
