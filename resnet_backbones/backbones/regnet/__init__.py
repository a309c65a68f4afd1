"""RegNets."""
