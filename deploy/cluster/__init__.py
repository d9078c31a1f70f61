"""The Ray runtime: the parts of a run as actors, watched over by the driver.

    WorkerHost x N --insert(unroll)--> LearnerHost (queues, prefetch, updates) --weights-->
    WorkerHost
          ^                                |  heartbeat, report, state
          +------ start, replace ------ Supervisor (driver): metrics, checkpoints, evaluation

Unrolls and weights travel between the actors; the driver only sees counters and, at a checkpoint,
the learner's state. Of several learners (`learners.py`) each has workers of its own; between them
go the sums of `learner.parallel`, and the driver joins what they tell (`joined.py`).
"""

from deploy.cluster.training import train

__all__ = ["train"]
