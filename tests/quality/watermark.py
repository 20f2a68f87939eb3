"""Error rates, time and quality of the watermark: `python -m tests.quality.watermark`.

Each clip is attacked and searched with and without the watermark. Needs the programs `espeak-ng` and `ffmpeg`.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from environments import ROOT

from gpu_runner.engines.hibari.prompt import ReferenceAnalysis
from gpu_runner.engines.hibari.stock_voice import SAMPLE_RATE as RATE
from gpu_runner.engines.hibari.stock_voice import StockVoice
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.marking.watermark import THRESHOLD, detect
from pipeline.marking.watermark_encoder import WatermarkEncoder
from tests.quality.environment import quality_python, recordings
from tests.quality.report import fingerprint
from tests.quality.sentences import own_references, own_sentences
from tests.quality.synthesis import cut

READING_SECONDS = 5
ESPEAK_VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+f5", "en-us+m7", "en-gb-scotland", "en-us+klatt4", "de")

Clip = dict[str, Any]  # source, name, samples at RATE
Change = Callable[[Samples], Samples]
Attack = Callable[[Sequence[Samples]], list[Samples]]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality.watermark", description=__doc__)
    parser.add_argument("--results", type=Path, help="write RESULTS.json and RESULTS.md")
    parser.add_argument("--limit", type=int, help="use only the first clips of each source")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clips = first_clips(Path(name), arguments.limit)
        marked = [clip | {"samples": mark(clip["samples"])} for clip in clips]
        costs = times(clips) | opinion_scores(clips, marked, Path(name))
    found = [
        {"attack": attack, "source": clip["source"], "name": clip["name"], "marked": is_marked, "score": score}
        for is_marked, group in ((True, marked), (False, clips))
        for attack, clip, score in searched(group)
    ]
    write(found, costs, arguments.results)


def first_clips(folder: Path, limit: int | None) -> list[Clip]:
    """Return the first clips of each source, or all."""
    return [clip for source in (hibari_clips, espeak_clips, reader_clips) for clip in list(source(folder))[:limit]]


def hibari_clips(folder: Path) -> Iterator[Clip]:
    """Sentences of the stock voice, adapted to three readers in turns."""
    voice = StockVoice()
    analysis = ReferenceAnalysis(voice)
    prompts = []
    for reference in own_references(recordings())[:-1]:
        samples, rate = sf.read(cut(reference, folder), dtype="float32")
        prompts.append(analysis.measure(Recording(samples, rate)))
    for number, sentence in enumerate(own_sentences()):
        adaptation, noise = prompts[number % len(prompts)].adaptation, np.random.default_rng(number)
        parts = [voice.synthesize(ids, adaptation, noise) for ids in voice.phonemes(sentence.text)]
        yield {"source": "hibari", "name": sentence.name, "samples": np.concatenate(parts)}


def espeak_clips(folder: Path) -> Iterator[Clip]:
    """Sentences of espeak-ng, whose voices take turns."""
    path = folder / "espeak.wav"
    for number, sentence in enumerate(own_sentences()):
        voice = ESPEAK_VOICES[number % len(ESPEAK_VOICES)]
        subprocess.run(["espeak-ng", "-v", voice, "-w", str(path), sentence.text], check=True)
        yield {"source": "espeak-ng", "name": sentence.name, "samples": ffmpeg(path.read_bytes())}


def reader_clips(_folder: Path) -> Iterator[Clip]:
    """Parts of the recordings of readers."""
    for path in sorted(recordings().glob("*.wav")):
        if path.stem in ("error", "success"):
            continue  # sounds
        samples = ffmpeg(path.read_bytes())
        size = READING_SECONDS * RATE
        for number in range(max(1, len(samples) // size)):
            part = samples[number * size : (number + 1) * size]
            yield {"source": "readers", "name": f"{path.stem}-{number}", "samples": part}


def mark(samples: Samples) -> Samples:
    """Return samples with the watermark."""
    encoder = WatermarkEncoder(RATE)
    return np.concatenate([encoder.add(samples), encoder.finish()])


def ffmpeg(data: bytes, *options: str, raw: bool = False) -> Samples:
    """Decode a file, or raw samples, with options of the output. Return samples at RATE."""
    source = ["-f", "f32le", "-ar", str(RATE), "-ac", "1"] if raw else []
    result = ["-f", "f32le", "-ar", str(RATE), "-ac", "1"]
    command = ["ffmpeg", "-v", "error", *source, "-i", "-", *options, *result, "-"]
    decoded = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    return np.frombuffer(decoded, np.float32)


def each(change: Change) -> Attack:
    """Return an attack that changes one clip after the other."""
    return lambda clips: [change(clip) for clip in clips]


def joined(change: Change) -> Attack:
    """Return an attack that changes all clips in one call, with half a second between them, and cuts the result."""

    def attack(clips: Sequence[Samples]) -> list[Samples]:
        silence = np.zeros(RATE // 2, np.float32)
        whole = np.concatenate([part for clip in clips for part in (clip, silence)])
        changed = change(whole)
        scale = len(changed) / len(whole)
        starts = np.cumsum([0, *(len(clip) + len(silence) for clip in clips)])[:-1]
        return [
            changed[int(start * scale) : int((start + len(clip)) * scale)]
            for start, clip in zip(starts, clips, strict=True)
        ]

    return attack


def coded(*options: str) -> Attack:
    """Return an attack that encodes clips with these options and decodes them."""

    def change(samples: Samples) -> Samples:
        command = ["ffmpeg", "-v", "error", "-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "-", *options, "-"]
        return ffmpeg(subprocess.run(command, input=samples.tobytes(), capture_output=True, check=True).stdout)

    return joined(change)


def filtered(filter_: str) -> Attack:
    """Return an attack by a filter of FFmpeg."""
    return joined(lambda samples: ffmpeg(samples.tobytes(), "-af", filter_, raw=True))


def noisy(samples: Samples) -> Samples:
    """Add white noise 20 dB below the mean power."""
    noise = np.random.default_rng(1).normal(0, 0.1 * np.sqrt(np.mean(samples**2)), len(samples))
    return (samples + noise).astype(np.float32)


def middle(samples: Samples, seconds: float) -> Samples:
    """Return the middle of a clip."""
    size = min(len(samples), round(seconds * RATE))
    start = (len(samples) - size) // 2
    return samples[start : start + size]


MP3_64 = coded("-c:a", "libmp3lame", "-b:a", "64k", "-f", "mp3")
CUT = each(lambda samples: middle(samples, 2))
ATTACKS: dict[str, Attack] = {
    "none": list,
    "MP3, 128 kbit/s": coded("-c:a", "libmp3lame", "-b:a", "128k", "-f", "mp3"),
    "MP3, 64 kbit/s": MP3_64,
    "Opus, 24 kbit/s": coded("-c:a", "libopus", "-b:a", "24k", "-f", "ogg"),
    "AAC, 64 kbit/s": coded("-c:a", "aac", "-b:a", "64k", "-f", "adts"),
    "µ-law, 8 kHz": coded("-ar", "8000", "-c:a", "pcm_mulaw", "-f", "wav"),
    "resampled to 16 kHz": coded("-ar", "16000", "-c:a", "pcm_s16le", "-f", "wav"),
    "resampled to 44.1 kHz": coded("-ar", "44100", "-c:a", "pcm_s16le", "-f", "wav"),
    "noise at 20 dB": each(noisy),
    "10 % faster, pitch kept": filtered("atempo=1.1"),
    "10 % slower, pitch kept": filtered("atempo=0.9"),
    "10 % faster and higher": filtered(f"asetrate={RATE * 11 // 10}"),
    "10 % slower and lower": filtered(f"asetrate={RATE * 9 // 10}"),
    "cut to 2 s": CUT,
    "cut to 1 s": each(lambda samples: middle(samples, 1)),
    "cut to 2 s, MP3, 64 kbit/s": lambda clips: MP3_64(CUT(clips)),
}


def searched(clips: Sequence[Clip]) -> Iterator[tuple[str, Clip, float]]:
    """Yield the score of each clip after each attack."""
    for name, attack in ATTACKS.items():
        print(name, flush=True)
        for clip, samples in zip(clips, attack([clip["samples"] for clip in clips]), strict=True):
            yield name, clip, detect(samples, RATE).score


def times(clips: Sequence[Clip]) -> dict[str, float]:
    """Return the CPU time in milliseconds for each second of audio."""
    seconds = sum(len(clip["samples"]) for clip in clips) / RATE
    works: dict[str, Callable[[Samples], object]] = {
        "encode_ms": mark,
        "detect_ms": lambda samples: detect(samples, RATE),
    }
    measured = {}
    for name, work in works.items():
        began = time.process_time()
        for clip in clips:
            work(clip["samples"])
        measured[name] = 1000 * (time.process_time() - began) / seconds
    return measured


def opinion_scores(clips: Sequence[Clip], marked: Sequence[Clip], folder: Path) -> dict[str, float]:
    """Return the mean DNSMOS of each source, with and without the watermark."""
    scores = folder / "scores.json"
    wavs = []
    for kind, group in (("unmarked", clips), ("marked", marked)):
        for number, clip in enumerate(group):
            path = folder / f"{clip['source']}-{kind}-{number}.wav"
            sf.write(path, clip["samples"], RATE)
            wavs.append(str(path))
    arguments = ["-W", "ignore", "-m", "tests.quality.opinion_scores", str(scores), *wavs]
    subprocess.run([str(quality_python()), *arguments], cwd=ROOT, check=True)
    by_wav = json.loads(scores.read_text())
    groups = dict.fromkeys(Path(wav).name.rsplit("-", 1)[0] for wav in wavs)
    return {
        f"dnsmos {group}": float(np.mean([by_wav[wav] for wav in wavs if Path(wav).name.startswith(f"{group}-")]))
        for group in groups
    }


def write(found: list[dict[str, Any]], costs: dict[str, float], results: Path | None) -> None:
    """Print the table, and write it with all scores."""
    sources = list(dict.fromkeys(one["source"] for one in found))
    lines = [
        f"| after | {' | '.join(f'{source}: found' for source in sources)} | false alarms | lowest score with mark "
        "| highest without |",
        "|---" * (len(sources) + 4) + "|",
    ]
    for attack in ATTACKS:
        marked = [one for one in found if one["attack"] == attack and one["marked"]]
        unmarked = [one for one in found if one["attack"] == attack and not one["marked"]]
        counts = [_count([one for one in marked if one["source"] == source]) for source in sources]
        extremes = (min(one["score"] for one in marked), max(one["score"] for one in unmarked))
        cells = [attack, *counts, _count(unmarked), *(f"{score:.2f}" for score in extremes)]
        lines.append(f"| {' | '.join(cells)} |")
    facts = costs | {"threshold": THRESHOLD} | fingerprint({})
    markdown = "\n".join(lines) + "\n\n" + "".join(f"- {name}: {value}\n" for name, value in facts.items())
    print(markdown)
    if results:
        results.with_suffix(".md").write_text(markdown)
        results.with_suffix(".json").write_text(json.dumps({"facts": facts, "scores": found}, indent=0) + "\n")


def _count(found: Sequence[dict[str, Any]]) -> str:
    return f"{sum(one['score'] >= THRESHOLD for one in found)} of {len(found)}"


if __name__ == "__main__":
    main()
