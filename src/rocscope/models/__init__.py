"""Shape models: bytes and FLOPs of a dispatch from its shape. One file a kernel family."""
