"""The command line, ``resnet-backbones``."""
