"""How much a bundle differs from the model it came from: torch, ONNX fp32 and the bundle's graphs, side by side.

Measured on the held-out samples of the checkpoint: training images, each with one of its captions, that calibration
never saw. Here is measured and nothing judged; `gate` judges, `report` writes it down.
"""

from .compare import Agreement, Margins, agreement
from .figures import GraphParity, ParityReport
from .measure import Graphs, check_heldout, measure
from .retrieval import DatasetParts, Direction, Retrieval, on_dataset, on_pairs, read_parts

__all__ = [
    "Agreement",
    "DatasetParts",
    "Direction",
    "GraphParity",
    "Graphs",
    "Margins",
    "ParityReport",
    "Retrieval",
    "agreement",
    "check_heldout",
    "measure",
    "on_dataset",
    "on_pairs",
    "read_parts",
]
