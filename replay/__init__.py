"""What lies between actors and learner: bounded per-task trajectory queues, or per-task replay."""
