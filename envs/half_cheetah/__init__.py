"""HalfCheetah with gravities or body parts changed per task."""
