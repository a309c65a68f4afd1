"""The variants, a file a kind."""
