# The CUDA extension: a separate module, loaded at the first CUDA array, with a static runtime.
