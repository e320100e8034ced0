"""Engines that run an exported network, one small module each, behind one protocol."""
