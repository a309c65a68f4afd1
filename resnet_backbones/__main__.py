"""``python -m resnet_backbones``: the command line."""

from resnet_backbones.cli.app import main

if __name__ == "__main__":
    main()
