"""Helpers that several packages share: files, checks, text, noise."""
