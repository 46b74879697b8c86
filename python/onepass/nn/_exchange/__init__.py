"""Models in and out: files, a summary, PyTorch, ONNX."""
