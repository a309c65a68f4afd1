"""Darknets and cross stage partial networks."""
