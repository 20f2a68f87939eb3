"""Sentences to speak: our own, or a folder in the layout of seed-tts-eval."""

from dataclasses import dataclass
from pathlib import Path

OWN = Path(__file__).with_name("sentences.txt")


@dataclass(frozen=True, slots=True)
class Reference:
    """The recording of a speaker."""

    name: str
    wav: Path
    transcription: str = ""
    start: float = 0.0
    """Seconds of the recording to skip."""
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text to speak."""

    name: str
    text: str
    spoken: tuple[str, ...]
    """The accepted spoken forms."""
    reference: Reference | None = None
    """Its own reference, or None for any."""


def own_sentences(path: Path = OWN) -> list[Sentence]:
    """Read lines of tab-separated texts and spoken forms. `# title` starts a category."""
    sentences: list[Sentence] = []
    category, number = "", 0
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            category, number = line[1:].strip(), 0
            continue
        text, *spoken = line.split("\t")
        number += 1
        sentences.append(Sentence(f"{category}-{number}", text, tuple(spoken) or (text,)))
    return sentences


def seed_tts_eval(folder: Path) -> list[Sentence]:
    """Read `meta.lst` of seed-tts-eval (https://github.com/BytedanceSpeech/seed-tts-eval).

    Each line has `name|transcription of the reference|path of the reference|text`. Further fields are ignored.
    """
    sentences = []
    for line in (folder / "meta.lst").read_text().splitlines():
        name, transcription, wav, text = line.split("|")[:4]
        sentences.append(Sentence(name, text, (text,), Reference(wav, folder / wav, transcription)))
    return sentences


def own_references(recordings: Path) -> list[Reference]:
    """Return readings from the wheel of `moonshine-voice`, of one speaker each except `endgame`."""
    cities = (
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
        "foolishness, it was the epoch of belief, it was the epoch of incredulity,"
    )
    beckett = "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."
    america = "I'd say, I think that America do it very well, I mean"
    return [
        Reference("two_cities", recordings / "two_cities.wav", cities, 1.0, 13.0),
        Reference("beckett", recordings / "beckett.wav", beckett),
        Reference("clone_test", recordings / "clone-test.wav", america),
        Reference("endgame", recordings / "endgame_nagg_nell.wav"),
    ]
