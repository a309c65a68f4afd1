"""What several packages use: each helper once."""
