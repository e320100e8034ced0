"""What the coded bytes of a packet say about decoding it, read without decoding: one module a family of codecs."""
