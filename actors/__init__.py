"""Rollout: policies at acting time, the unroller, the worker loop, the evaluator."""
