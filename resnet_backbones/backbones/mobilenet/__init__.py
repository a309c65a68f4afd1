"""Networks of inverted residuals: MobileNetV2, MobileNetV3, EfficientNet-Lite."""
