"""What came out of an export, measured on the file itself."""
