"""What several architectures share: attention, stems, shortcuts, striding behind a low-pass filter."""
