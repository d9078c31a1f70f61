"""Atari 2600 games in every mode and difficulty the emulator has."""
