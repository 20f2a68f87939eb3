"""Stand-ins for packages that `qwen_tts` imports but that nothing here ever calls.

torchaudio, onnxruntime and sox serve its 25 Hz tokenizer alone.  They weigh several hundred MB, torchaudio comes
linked to CUDA only, and sox wants a program on the machine, so they aren't installed: the 12 Hz models do without.
"""

import importlib
import importlib.machinery
import sys
from types import ModuleType

UNUSED = ("sox", "onnxruntime", "torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi")


class StandIn(ModuleType):
    """An empty module that says why it is empty when something is asked of it."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(f"{self.__name__}.{name} is not there: only the 25 Hz tokenizer needs it")


def install() -> list[str]:
    """Put a stand-in in the place of each unused package that can't be imported; give their names.

    Call it before the first `import qwen_tts`.
    """
    # transformers asks importlib which optional packages there are; it has to hear the truth, so it comes first.
    importlib.import_module("transformers")
    return [name for name in UNUSED if not _importable(name) and _stand_in(name)]


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, OSError):  # OSError: a shared library of a CUDA build is missing
        for half in [module for module in sys.modules if module == name or module.startswith(name + ".")]:
            del sys.modules[half]
        return False
    return True


def _stand_in(name: str) -> StandIn:
    module = StandIn(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module
