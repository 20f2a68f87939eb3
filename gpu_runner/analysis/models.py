"""Models in ONNX files inside installed packages, which are not imported: they would import torch."""

from typing import Any

from pipeline.marking.checkpoints import PackageMissing, installed_file


def onnx_session(package: str, name: str) -> Any:
    """Return an onnxruntime session with one thread for a file of a package.

    Raises
    ------
    PackageMissing
        The package or onnxruntime is not installed.
    """
    path = installed_file(package, name)
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise PackageMissing("onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # it would keep 150 MB between recordings
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
