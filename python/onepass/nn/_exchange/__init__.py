"""What a model becomes outside of the process, and what becomes a model: files, tables, PyTorch, ONNX."""
