import importlib.util
import subprocess
import sys

import pytest

from gpu_runner.engines.qwen.checkpoint import stub_modules


@pytest.fixture(autouse=True)
def stubs() -> None:
    stub_modules.install()


def test_library_imports_without_unused_packages() -> None:
    program = (
        "from gpu_runner.engines.qwen.checkpoint import stub_modules; print(*stub_modules.install());"
        "import qwen_tts, transformers.utils as u; print(u.is_torchaudio_available())"
    )
    # A process of its own: the one that runs the tests has imported everything already.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, *_, last = done.stdout.splitlines()
    assert set(first.split()) <= set(stub_modules.UNUSED)
    assert last == str(importlib.util.find_spec("torchaudio") is not None and "torchaudio" not in first)


def test_stub_explains_itself_when_used() -> None:
    module = sys.modules["sox"]
    if not isinstance(module, stub_modules.StubModule):
        pytest.skip("the real one is installed")
    with pytest.raises(ImportError, match=r"sox\.Transformer is not installed"):
        _ = module.Transformer


def test_importable_package_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub_modules, "UNUSED", ("json", "no_such_package_here"))
    assert stub_modules.install() == ["no_such_package_here"]
    assert not isinstance(sys.modules["json"], stub_modules.StubModule)
    del sys.modules["no_such_package_here"]
