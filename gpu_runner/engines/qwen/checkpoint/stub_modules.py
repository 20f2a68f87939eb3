"""Stub modules for packages that `qwen_tts` imports but does not use here.

Only its 25 Hz tokenizer uses torchaudio, onnxruntime and sox. They take several hundred MB, torchaudio is linked to
CUDA only, and sox requires a system program. The 12 Hz models do not need them, so they are not installed.
"""

import importlib
import importlib.machinery
import sys
from types import ModuleType

UNUSED = ("sox", "onnxruntime", "torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi")


class StubModule(ModuleType):
    """An empty module that raises an explanatory error when an attribute is read."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(f"{self.__name__}.{name} is not installed: only the 25 Hz tokenizer needs it")


def install() -> list[str]:
    """Install a stub for each unused package that can't be imported, and return their names.

    Call it before the first `import qwen_tts`.
    """
    # transformers detects optional packages through importlib, so it is imported before the stubs exist.
    importlib.import_module("transformers")
    missing = [name for name in UNUSED if not _is_importable(name)]
    for name in missing:
        module = StubModule(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    return missing


def _is_importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, OSError):  # OSError: a shared library of a CUDA build is missing
        for partial in [module for module in sys.modules if module == name or module.startswith(name + ".")]:
            del sys.modules[partial]
        return False
    return True
