"""PyTorch networks that load their authors' checkpoints: UniFormer, MViT, MorphMLP, sMLPNet, CycleMLP, MLP-3D."""

from models import uniformer  # noqa: F401  (importing a family registers its models)
from models.checkpoint import CheckpointError, load_checkpoint
from models.registry import Network, create_model, list_models, model_entry
from models.weights import load_labels

__all__ = [
    "CheckpointError",
    "Network",
    "create_model",
    "list_models",
    "load_checkpoint",
    "load_labels",
    "model_entry",
]
