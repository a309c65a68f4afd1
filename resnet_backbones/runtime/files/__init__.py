"""What is read from the bytes of a file, with every offset checked."""
