"""Files with sentences."""

from pathlib import Path

from tests.quality.sentences import own_sentences, seed_tts_eval
from tests.quality.words import units


def test_own_sentences() -> None:
    sentences = own_sentences()
    assert len(sentences) == 40
    assert len({sentence.name for sentence in sentences}) == 40


def test_spoken_forms_have_no_digits() -> None:
    for sentence in own_sentences():
        assert not any(character.isdigit() for form in sentence.spoken for character in form), sentence.name


def test_seed_tts_eval_layout(tmp_path: Path) -> None:
    (tmp_path / "meta.lst").write_text(
        "one|What is said.|prompts/a.wav|Say this.\ntwo|你好|prompts/b.wav|再见|x.wav\n"
    )
    first, second = seed_tts_eval(tmp_path)
    assert first.text == "Say this."
    assert first.reference is not None
    assert first.reference.wav == tmp_path / "prompts/a.wav"
    assert first.reference.transcription == "What is said."
    assert units(second.spoken[0]) == ["再", "见"]
