"""TensorRT and TensorRT-RTX: one code path for `tensorrt` 10 and 11 and for `tensorrt_rtx`."""
