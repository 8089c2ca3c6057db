"""ONNX files: made by torch's exporter, checked by the onnx library, and run by onnxruntime beside torch."""

import importlib.util
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magic_cli.errors import ConfigError, ExtraError, problem
from magic_cli.models.export.graph import ExportGraph, Rows

LIBRARIES = ("onnx", "onnxruntime", "onnxscript")

OPSET = 18  # of 2022: what runs it need not be new

PRODUCER = "magic"

# Before onnxruntime is loaded: its builds since 2026 report their use to Microsoft, and keep an id of the machine in
# ~/.cache/Microsoft. An older one does not know the variable.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def require_libraries() -> None:
    """Check that the libraries are installed.

    Raises:
        ExtraError: with those that are not.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        needed = f"magic export --onnx needs {', '.join(LIBRARIES)}; not installed: {', '.join(missing)}"
        raise ExtraError(f"{needed}; pip install {' '.join(missing)}")


def onnx_bytes(graph: ExportGraph, arguments: Sequence[Tensor], properties: Mapping[str, object]) -> bytes:
    """Return a graph as an ONNX file.

    Args:
        graph: on the CPU.
        arguments: inputs of two or more rows, so that no axis of length one is taken for a constant.
        properties: added to the file's metadata_props, texts as they are and all else as JSON.

    Raises:
        ConfigError: torch cannot export an operation of this model.
    """
    import onnx

    graph.eval().requires_grad_(False)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own, about its own internals
            program = torch.onnx.export(
                graph,
                tuple(arguments),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[port.name for port in graph.inputs],
                output_names=[graph.output.name],
                dynamic_shapes=(_dynamic(graph),),  # of `*inputs`
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        got = f"a model that torch {torch.__version__} cannot export ({reason[:200]})"
        raise ConfigError(problem("--onnx", got, "another encoder, or another version", "try those")) from error
    assert program is not None  # noqa: S101  dynamo=True returns a program
    model = program.model_proto
    _strip(model.graph)
    model.producer_name = PRODUCER
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in properties.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _dynamic(graph: ExportGraph) -> tuple[dict[int, Any], ...]:
    """Return the axes of each input whose length is known only when the graph runs; one name is one length."""
    names = {axis for port in graph.inputs for axis in port.axes if isinstance(axis, str)}
    lengths = {name: torch.export.Dim(name, min=1, max=1 << 20) for name in names}
    return tuple({n: lengths[axis] for n, axis in enumerate(p.axes) if isinstance(axis, str)} for p in graph.inputs)


def _strip(graph: Any) -> None:
    """Remove what torch noted about its own steps: it holds paths of this machine's files."""
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


def producer(path: Path) -> str:
    """Return the name of the program that made an ONNX file; "" for a file of another kind."""
    import onnx

    try:
        return str(onnx.load(path, load_external_data=False).producer_name)
    except Exception:  # damaged or foreign bytes may raise any exception
        return ""


class Session:
    """An ONNX file in onnxruntime, on one thread of the CPU."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, torch.get_num_threads())
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.names = [value.name for value in self._session.get_inputs()]
        self.properties: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, arguments: Sequence[Tensor]) -> Rows:
        """Return the output for inputs in their order."""
        feeds: dict[str, NDArray[Any]] = {n: a.numpy() for n, a in zip(self.names, arguments, strict=True)}
        return np.asarray(self._session.run(None, feeds)[0], np.float32)
