"""The composition root: command line, building parts from a config, the two runtimes."""
