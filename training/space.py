"""Where images and texts meet while the image tower learns: the text teachers' features through one linear map.

A text is its teacher features (`teachers.text_features`) through the map; a concept has a residual of its own beside
that. Half of the steps go without the residuals, so that the map alone, all that a word without pictures has, is good.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Space(nn.Module):
    def __init__(self, concepts: torch.Tensor, dim: int) -> None:
        """`concepts` (V, T): teacher features of the concepts; the map starts from their principal components."""
        super().__init__()
        self.concepts: torch.Tensor
        self.register_buffer("concepts", concepts, persistent=False)
        self.map = nn.Linear(concepts.shape[1], dim, bias=False)
        self.residual = nn.Parameter(torch.zeros(len(concepts), dim))
        self.log_scale = nn.Parameter(torch.tensor(3.0))
        with torch.no_grad():
            axes = torch.linalg.svd(concepts, full_matrices=False).Vh  # (min(V, T), T)
            self.map.weight.copy_(axes[:dim])

    @property
    def scale(self) -> torch.Tensor:
        return self.log_scale.exp().clamp(max=60)

    def texts(self, features: torch.Tensor) -> torch.Tensor:
        """(M, T) teacher features to (M, D) unit rows."""
        return F.normalize(self.map(features), dim=1)

    def heads(self, residual: bool = True) -> torch.Tensor:
        """(V, D) unit rows of the concepts."""
        rows = self.map(self.concepts)
        return F.normalize(rows + self.residual if residual else rows, dim=1)
