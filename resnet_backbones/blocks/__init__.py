"""Residual blocks, one file each, and what they are made of: layers, stems and shortcuts as the spec asks."""
