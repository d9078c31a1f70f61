"""Gradients of many tasks on shared weights, and the ways to make one of them."""
