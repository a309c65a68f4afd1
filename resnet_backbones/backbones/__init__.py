"""Backbones: from a name to a spec, and from a spec to a network."""
