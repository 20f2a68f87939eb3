import importlib.util
import subprocess
import sys

import pytest

from gpu_runner.engines.qwen.checkpoint import stand_ins


@pytest.fixture(autouse=True)
def standing() -> None:
    stand_ins.install()


def test_the_library_imports_without_what_it_does_not_use() -> None:
    program = (
        "from gpu_runner.engines.qwen.checkpoint import stand_ins; print(*stand_ins.install());"
        "import qwen_tts, transformers.utils as u; print(u.is_torchaudio_available())"
    )
    # A process of its own: the one that runs the tests has imported everything already.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, *_, last = done.stdout.splitlines()
    assert set(first.split()) <= set(stand_ins.UNUSED)
    assert last == str(importlib.util.find_spec("torchaudio") is not None and "torchaudio" not in first)


def test_a_stand_in_says_what_it_is_when_it_is_used() -> None:
    module = sys.modules["sox"]
    if not isinstance(module, stand_ins.StandIn):
        pytest.skip("the real one is installed")
    with pytest.raises(ImportError, match=r"sox\.Transformer is not there"):
        _ = module.Transformer


def test_what_can_be_imported_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_ins, "UNUSED", ("json", "no_such_package_here"))
    assert stand_ins.install() == ["no_such_package_here"]
    assert not isinstance(sys.modules["json"], stand_ins.StandIn)
    del sys.modules["no_such_package_here"]
