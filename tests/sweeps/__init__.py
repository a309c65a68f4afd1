"""Sweeps over generated cases: long ones are scripts, and the tests run a part of each."""
