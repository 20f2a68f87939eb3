"""Error rates of the checks of consents, for real readers and synthetic voices.

`python -m tests.quality.consents RESULT.json` needs espeak-ng, sox, and the recordings of `moonshine-voice`.
`--librivox FOLDER` adds the readings in Debian's package `pocketsphinx-testdata`.
"""

import argparse
import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from gpu_runner.analysis.consents.statements import StatementMatch, compare, match, recognize_statement
from gpu_runner.analysis.speaker import embed, similarity
from gpu_runner.engines import Reference, Utterance
from gpu_runner.engines.hibari.engine import HibariEngine
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.contract.records import Options
from pipeline.domain.consents.statements import CODE_DIGITS, statement
from tests.quality.environment import recordings
from tests.support.engines import synthesize
from tests.support.speech import voice

RATE = 16_000
OTHER_CODES = 50  # that each reading is compared with
ESPEAK = [
    f"{accent}+{variant}"
    for accent, variants in (("en-us", "m1 m3 m7 f2 f4 max"), ("en-gb", "m3 f2 belinda"))
    for variant in variants.split()
]
HIBARI = (95.0, 130.0, 210.0)  # pitches of the references, in Hz
TEXTS = ("The weather was fine, and we walked along the river until the evening.", "Please send the letter today.")
# Seconds of each reader in the wheel, and the words where they are known.
READERS = {
    "two_cities": ("two_cities.wav", 0.0, 12.5),
    "beckett": ("beckett.wav", 0.0, 10.0),
    "clone_test": ("clone-test.wav", 0.0, 4.0),
}
WORDS = {
    "two_cities": "It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
    "age of foolishness, it was the epoch of belief, it was the epoch of incredulity",
    "beckett": "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.",
    "clone_test": "I'd say, I think that America do it very well, I mean",
}
PERSONS = ("Alice Smith", "Robert Jones", "Katarzyna Nowak")
PURPOSES = (("audio books",), ("announcements", "video games"), ("telephone menus",))


def espoken(text: str, name: str) -> Samples:
    wav = subprocess.run(["espeak-ng", "-v", name, "-s", "150", "--stdout", text], capture_output=True, check=True)
    return _raw(["-t", "wav", "-"], wav.stdout)


def read(path: Path) -> Samples:
    return _raw([str(path)], b"")


def _raw(source: Sequence[str], data: bytes) -> Samples:
    command = ["sox", *source, "-r", str(RATE), "-b", "16", "-c", "1", "-t", "raw", "-"]
    raw = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    return np.frombuffer(raw, "<i2").astype(np.float32) / np.float32(32768)


class Voices:
    """Synthetic speakers by name."""

    def __init__(self) -> None:
        self._engine = HibariEngine()
        self._prompts = {f"hibari-{pitch:g}": self._prompt(pitch) for pitch in HIBARI}
        self.names = [*ESPEAK, *self._prompts]

    def _prompt(self, pitch: float) -> Any:
        return self._engine.make_prompt(Reference(voice(pitch), ""))

    def speak(self, text: str, name: str) -> Recording:
        if name not in self._prompts:
            return Recording(espoken(text, name), RATE)
        utterance = Utterance("a", text, self._prompts[name], Options())
        return Recording(synthesize(self._engine, utterance)["a"].samples, self._engine.sample_rate)


def new_code(random_: random.Random) -> str:
    return f"{random_.randrange(10**CODE_DIGITS):0{CODE_DIGITS}d}"


def statements(random_: random.Random) -> Iterator[tuple[str, str]]:
    for person, purposes in zip(PERSONS, PURPOSES, strict=True):
        code = new_code(random_)
        now = datetime(2026, 11, 29, tzinfo=UTC)
        yield statement("English", person, "Example Audio", purposes, now, code), code


def readers(librivox: Path | None) -> dict[str, list[Samples]]:
    """Return at least two recordings of each real reader: the halves of a longer one."""
    found = {}
    for name, (file, start, end) in READERS.items():
        samples = read(recordings() / file)[int(start * RATE) : int(end * RATE)]
        found[name] = np.array_split(samples, 2)
    if librivox:
        parts = [read(path) for path in sorted(librivox.glob("*.wav"))]
        found["librivox"] = [np.concatenate(parts[:3]), np.concatenate(parts[3:])]
    return found


def words_of(librivox: Path | None) -> Iterator[tuple[str, str, Samples]]:
    """Yield the readings whose words are known."""
    for name, text in WORDS.items():
        file, start, end = READERS[name]
        yield name, text, read(recordings() / file)[int(start * RATE) : int(end * RATE)]
    if librivox:
        for line in (librivox / "transcription").read_text().splitlines():
            text, _, name = line.removeprefix("<s> ").partition(" </s> ")
            yield f"librivox {name[-5:-1]}", text, read(librivox / f"{name[1:-1]}.wav")


def as_item(speaker: str, kind: str, match: StatementMatch) -> dict[str, Any]:
    return {"speaker": speaker, "kind": kind, "words": match.words, "wrong_digits": match.wrong_digits}


def measure_words(voices: Voices, librivox: Path | None) -> list[dict[str, Any]]:
    """Compare readings with the statement that was read, with one of another code, and with another text."""
    random_ = random.Random(1)
    items, last = [], ("", "")
    for name in voices.names:
        for text, code in statements(random_):
            spoken = voices.speak(text.replace(" ".join(code), ", ".join(code)), name)
            known, recognized = recognize_statement(spoken.samples, spoken.sample_rate, text)
            items.append(as_item(name, "same", match(known, code, recognized)))
            others = (new_code(random_) for _ in range(OTHER_CODES))
            items += [as_item(name, "other code", match(known, other, recognized)) for other in others]
            last = text, code
        talk = voices.speak(" ".join(TEXTS) * 3, name)
        items.append(as_item(name, "other text", compare(talk.samples, talk.sample_rate, *last)))
        print(name, flush=True)
    for name, text, samples in words_of(librivox):
        items.append(as_item(name, "real, same words", compare(samples, RATE, text, "")))
        items.append(as_item(name, "real, other text", compare(samples, RATE, *last)))
    return items


def measure_speakers(voices: Voices, real: Mapping[str, list[Samples]]) -> list[dict[str, Any]]:
    """Compare two recordings of each speaker with each other and with those of all other speakers."""
    embeddings = {name: [embed(part, RATE) for part in parts] for name, parts in real.items()}
    for name in voices.names:
        spoken = [voices.speak(text * 2, name) for text in TEXTS]
        embeddings[name] = [embed(one.samples, one.sample_rate) for one in spoken]
    items = []
    for name, (first, second) in embeddings.items():
        items.append({"speakers": [name], "real": name in real, "similarity": round(similarity(first, second), 3)})
    for one, other in combinations(embeddings, 2):
        is_real = one in real and other in real
        for first, second in product(embeddings[one], embeddings[other]):
            score = round(similarity(first, second), 3)
            items.append({"speakers": [one, other], "real": is_real, "similarity": score})
    return items


def rates(words: Sequence[dict[str, Any]], speakers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the shares of readings that pass, for several limits."""

    def share(passed: Sequence[bool]) -> dict[str, float]:
        return {"share": round(sum(passed) / max(1, len(passed)), 4), "of": len(passed)}

    kinds = sorted({item["kind"] for item in words})
    by_words = {
        f"words >= {limit}": {
            kind: share([item["words"] >= limit for item in words if item["kind"] == kind]) for kind in kinds
        }
        for limit in (0.4, 0.5, 0.6, 0.7, 0.8)
    }
    by_digits = {
        f"wrong digits <= {limit}": {
            kind: share([item["wrong_digits"] <= limit for item in words if item["kind"] == kind])
            for kind in ("same", "other code")
        }
        for limit in range(4)
    }
    by_speaker = {
        f"similarity >= {limit}": {
            f"{'same' if count == 1 else 'other'}, {'real' if is_real else 'with synthetic'}": share(
                [
                    item["similarity"] >= limit
                    for item in speakers
                    if len(item["speakers"]) == count and item["real"] == is_real
                ]
            )
            for count, is_real in product((1, 2), (True, False))
        }
        for limit in (0.65, 0.7, 0.75, 0.8, 0.85)
    }
    return {"words": by_words, "digits": by_digits, "speaker": by_speaker}


def summary(words: Sequence[dict[str, Any]], speakers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the rates and the items. The many comparisons with other codes are counted by their wrong digits."""
    codes = Counter(item["wrong_digits"] for item in words if item["kind"] == "other code")
    return {
        "rates": rates(words, speakers),
        "wrong_digits_of_other_codes": dict(sorted(codes.items())),
        "words": [item for item in words if item["kind"] != "other code"],
        "speakers": speakers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--librivox", type=Path)
    arguments = parser.parse_args()
    voices = Voices()
    speakers = measure_speakers(voices, readers(arguments.librivox))
    words = measure_words(voices, arguments.librivox)
    result = summary(words, speakers)
    arguments.result.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["rates"], indent=1))


if __name__ == "__main__":
    main()
