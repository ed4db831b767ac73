"""From a trained checkpoint to the bundle that the edge loads: ONNX graphs, int8, proof."""
