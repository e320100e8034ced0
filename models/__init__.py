"""PyTorch networks that load their authors' checkpoints: UniFormer, MViT, MorphMLP, sMLPNet, CycleMLP, MLP-3D."""

from models import (  # noqa: F401  (importing a family registers its models)
    cyclemlp,
    mlp3d,
    morphmlp,
    mvit,
    pose,
    segmentation,
    smlpnet,
    uniformer,
    uniformer_light,
)
from models.checkpoint import CheckpointError, load_checkpoint
from models.registry import Network, create_model, list_models, model_entry
from models.weights import load_labels, load_palette

__all__ = [
    "CheckpointError",
    "Network",
    "create_model",
    "list_models",
    "load_checkpoint",
    "load_labels",
    "load_palette",
    "model_entry",
]
