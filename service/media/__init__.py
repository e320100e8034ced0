"""From the bytes of an upload to uint8 views: formats, probing, sampling, decoding, preprocessing, worker processes."""
