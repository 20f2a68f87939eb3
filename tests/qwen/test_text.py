import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.engines.qwen.checkpoint.model import Model
from gpu_runner.engines.qwen.text import (
    CLAUSE_PAUSE,
    LONGEST_PART_SECONDS,
    PARAGRAPH_PAUSE,
    SENTENCE_PAUSE,
    Cleaner,
    has_words,
    parts_of,
    speech_seconds,
)
from pipeline.contract.languages import LANGUAGES
from tests.qwen.tiny_checkpoint import CONTROL_TOKENS

clean = Cleaner(CONTROL_TOKENS)

SENTENCES = {
    "Chinese": ("今天天气很好，我们一起去公园散步。", "你觉得怎么样？"),
    "English": ("Dr. Smith paid $3.50 for the ticket.", "Then he left at 5 p.m. on Friday!"),
    "French": ("M. Dupont est arrivé ce matin.", "Comment allez-vous ?"),
    "German": ("Das kostet z. B. am 3. Oktober nur 4,50 Euro.", "Wie schön!"),
    "Italian": ("Il Sig. Rossi è arrivato stamattina.", "Come stai?"),
    "Japanese": ("今日はとてもいい天気ですね。", "散歩に行きましょうか？"),
    "Korean": ("오늘은 날씨가 아주 좋습니다.", "같이 산책하러 갈까요?"),
    "Portuguese": ("O Sr. Silva chegou esta manhã.", "Tudo bem?"),
    "Russian": ("Сегодня очень хорошая погода.", "Пойдём гулять?"),
    "Spanish": ("El Sr. Pérez llegó esta mañana.", "¿Cómo está usted?"),
}


def test_sentence_rules_of_every_language() -> None:
    assert {*SENTENCES, "Auto"} == set(LANGUAGES)


@pytest.mark.parametrize("said", [True, False], ids=["language said", "Auto"])
@pytest.mark.parametrize("language", SENTENCES)
def test_long_text_split_at_sentence_ends(language: str, said: bool) -> None:
    between = "" if language in {"Chinese", "Japanese"} else " "
    pair = between.join(SENTENCES[language])
    text = between.join([pair] * 25)
    parts = parts_of(text, language if said else "Auto")
    assert len(parts) > 1
    assert "".join("".join(part.text.split()) for part in parts) == "".join(text.split())
    for part in parts:
        assert part.text.endswith(tuple(sentence[-4:] for sentence in SENTENCES[language]))
        assert part.text.startswith(tuple(sentence[:3] for sentence in SENTENCES[language]))
        assert speech_seconds(part.text) <= LONGEST_PART_SECONDS
    assert [part.pause for part in parts] == [SENTENCE_PAUSE] * (len(parts) - 1) + [0.0]


def test_short_text_is_one_part() -> None:
    assert [(part.text, part.pause) for part in parts_of("One. Two. Three.", "English")] == [
        ("One. Two. Three.", 0.0)
    ]


def test_parts_have_similar_length() -> None:
    parts = parts_of("This sentence is one of quite a few. " * 40, "English")
    lengths = [speech_seconds(part.text) for part in parts]
    assert min(lengths) > 0.6 * max(lengths)


def test_paragraph_pause_is_longer() -> None:
    paragraph = "This is the first sentence of the paragraph. This is its second. " * 3
    parts = parts_of(clean(f"{paragraph}\n\n{paragraph}\n \n{paragraph}"), "English")
    assert [part.pause for part in parts] == [PARAGRAPH_PAUSE, PARAGRAPH_PAUSE, 0.0]


@pytest.mark.parametrize("text", ["word, " * 300, "word " * 300, "字" * 500, "w" * 3000])
def test_endless_sentence_is_split(text: str) -> None:
    parts = parts_of(clean(text), "Auto")
    assert len(parts) > 1
    assert "".join("".join(part.text.split()) for part in parts) == "".join(text.split())
    assert all(speech_seconds(part.text) <= LONGEST_PART_SECONDS for part in parts)
    assert all(part.pause == CLAUSE_PAUSE for part in parts[:-1])


def test_split_after_comma() -> None:
    parts = parts_of("and so it went on for a while, " * 40, "English")
    assert all(part.text.endswith(",") for part in parts)


@given(st.text(max_size=600), st.sampled_from(LANGUAGES))
def test_splitting_keeps_any_text(text: str, language: str) -> None:
    cleaned = clean(text * 3)
    if not has_words(cleaned):
        return
    parts = parts_of(cleaned, language)
    assert "".join("".join(part.text.split()) for part in parts) == "".join(cleaned.split())


_pieces = st.lists(st.sampled_from([*CONTROL_TOKENS, "<|", "|>", "<", ">", "im_", "end", "|", "a", " ", "\n"]))


@given(_pieces)
def test_cleaning_removes_control_tokens(pieces: list[str]) -> None:
    cleaned = clean("".join(pieces))
    assert not any(token in cleaned for token in CONTROL_TOKENS)


def test_control_token_tokenized_as_text(model: Model) -> None:
    special = set(model.tokenizer.get_added_vocab().values())
    assert special == {*range(264, 270)}
    assert not special & set(model.tokens("Stop <|im_end|> now <tts_pad>."))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  Hello \t there\n", "Hello there"),
        ("a\x00b\x1bc", "a b c"),
        ("one\n\n\ntwo\nthree", "one\n\ntwo three"),
        ("half \ud83d a pair", "half a pair"),
        ("한", "한"),  # three letters become the one that the tokenizer knows
        ("say <|im_start|>system", "say system"),
        ("<|unheard_of|>", ""),
        ("1 < 2 | 3 > 2", "1 < 2 | 3 > 2"),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("The quick brown fox jumps over the lazy dog.", 2.7),
        ("今天天气很好我们一起去公园散步", 3.9),
        ("안녕하세요 만나서 반갑습니다", 2.6),
    ],
)
def test_speech_seconds_estimate(text: str, seconds: float) -> None:
    assert speech_seconds(text) == pytest.approx(seconds, rel=0.25)
