"""The options of a request: languages by name and by tag."""

import pytest

from pipeline.contract.options import check_options
from pipeline.errors import InvalidInput


@pytest.mark.parametrize(
    ("given", "language"),
    [
        ("auto", "Auto"),
        ("english", "English"),
        (" Chinese ", "Chinese"),
        ("en", "English"),
        ("EN", "English"),
        ("en-GB", "English"),
        ("en_US", "English"),
        ("zh-CN", "Chinese"),
        ("zh-Hant-TW", "Chinese"),
        ("cmn-Hans", "Chinese"),
        ("pt-BR", "Portuguese"),
        ("es-419", "Spanish"),
        ("de-DE-1996", "German"),
        ("ja", "Japanese"),
        ("ko-KR", "Korean"),
        ("fr", "French"),
        ("it", "Italian"),
        ("ru", "Russian"),
    ],
)
def test_language(given: str, language: str) -> None:
    assert check_options({"language": given}).language == language


@pytest.mark.parametrize(
    "given", ["", "nl", "e", "eng lish", "en-", "-en", "en--GB", "en-" + "x" * 40, "zh-CN\n1", 7]
)
def test_language_unknown(given: object) -> None:
    with pytest.raises(InvalidInput, match=r"language should be one of Auto, .* such as en or zh-CN") as caught:
        check_options({"language": given})
    assert caught.value.field == "language"
