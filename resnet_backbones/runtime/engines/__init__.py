"""The engines that run files, a file each."""
