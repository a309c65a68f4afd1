"""LiteRT files (``.tflite``)."""
