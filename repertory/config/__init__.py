"""The one description of a run: frozen, strict models, written to `config.json`.

Every part reads it; a recipe, a YAML file, a flag and a resumed run are held to this schema.
"""

from repertory.config.algorithms import (
    AlgorithmConfig,
    ExpertConfig,
    GuideConfig,
    PpoConfig,
    SacConfig,
    Td3Config,
    VTraceConfig,
)
from repertory.config.base import (
    Discount,
    MemoryFormat,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Precision,
    Probability,
    Settings,
)
from repertory.config.collecting import (
    ActorConfig,
    QueueConfig,
    ReplayConfig,
)
from repertory.config.environments import (
    AtariConfig,
    CountingConfig,
    EnvironmentConfig,
    HalfCheetahConfig,
    MetaworldConfig,
    PointMassConfig,
)
from repertory.config.finetuning import (
    InitialConfig,
)
from repertory.config.gradients import (
    GradientConfig,
)
from repertory.config.learning import (
    LearnerConfig,
    OptimiserConfig,
)
from repertory.config.masks import (
    MaskConfig,
)
from repertory.config.networks import (
    NetworkConfig,
    PopArtConfig,
)
from repertory.config.records import (
    CheckpointConfig,
    EvaluationConfig,
    LoggingConfig,
)
from repertory.config.run import (
    RunConfig,
)

__all__ = [
    "ActorConfig",
    "AlgorithmConfig",
    "AtariConfig",
    "CheckpointConfig",
    "CountingConfig",
    "Discount",
    "EnvironmentConfig",
    "EvaluationConfig",
    "ExpertConfig",
    "GradientConfig",
    "GuideConfig",
    "HalfCheetahConfig",
    "InitialConfig",
    "LearnerConfig",
    "LoggingConfig",
    "MaskConfig",
    "MemoryFormat",
    "MetaworldConfig",
    "NetworkConfig",
    "NonNegative",
    "NonNegativeFloat",
    "OptimiserConfig",
    "PointMassConfig",
    "PopArtConfig",
    "Positive",
    "PositiveFloat",
    "PpoConfig",
    "Precision",
    "Probability",
    "QueueConfig",
    "ReplayConfig",
    "RunConfig",
    "SacConfig",
    "Settings",
    "Td3Config",
    "VTraceConfig",
]
