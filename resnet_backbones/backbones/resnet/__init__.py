"""Residual networks: ResNet, ResNeXt, ResNet v2, Res2Net and their kin."""
