"""MDNN: a local classifier for each group of descriptors, and a global one above them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ser_models.base import EmotionModel, check_sizes
from ser_models.sequences import Dropout, Output, Padded, single_vectors


class LocalClassifier(nn.Module):
    """The classifier of one group: linear > ReLU > dropout, twice, and a linear output.

    group : (batch, columns)
    returns : (batch, local_size) high-level features; (batch, classes) local logits
    """

    def __init__(
        self, columns: int, hidden_size: int, local_size: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.first = nn.Linear(columns, hidden_size)
        self.second = nn.Linear(hidden_size, local_size)
        self.output = nn.Linear(local_size, classes)
        self.dropout = Dropout(dropout)

    def forward(self, group: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.dropout(torch.relu(self.first(group)))
        features = self.dropout(torch.relu(self.second(hidden)))
        return features, self.output(features)


class MDNN(EmotionModel):
    """Multi-path deep neural network (Zhou et al., AAAI 2018), its supervised part.

    f(x) = dropout(ReLU(x));  G groups of columns x_1..x_G of an utterance's vector:
    h_g = f(A2_g f(A1_g x_g));  l_g = U_g h_g (local logits);  e = f(A3 [h_1; ...; h_G]);
    logits = W e. Every matrix has a bias. 228,124 parameters at the default sizes with 988
    functionals in six groups and 4 classes.

    The loss is the cross-entropy of the logits + `local_weight` / G * the sum over the groups of
    the cross-entropy of l_g. The prediction is that of the global classifier.

    The abstract of the paper gives the structure: groups of raw features train local classifiers,
    whose high-level features are concatenated for a global classifier, and all are trained with a
    single objective. The groups, all sizes, the dropout and the weight of the local losses are
    ours.

    groups : name -> columns of the group, as in `FeatureSet.groups`; without groups, all columns
        are one group
    hidden_size : size of the first layer of each local classifier (ours: 128)
    local_size : size of its second layer (ours: 64)
    embedding_size : size of the layer before the last (ours: 128)
    dropout : share dropped after each layer except the outputs (ours: 0.5)
    local_weight : weight of the mean over groups of the local cross-entropy (ours: 1)
    current : (batch, 1, dims)

    The output has `parts` (batch, G, classes), the local logits in the order of `groups`, and no
    attention.
    """

    order: Tensor

    def __init__(
        self,
        dims: int,
        classes: int,
        groups: Mapping[str, tuple[int, ...]],
        *,
        hidden_size: int = 128,
        local_size: int = 64,
        embedding_size: int = 128,
        dropout: float = 0.5,
        local_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes(dropout, dims=dims, classes=classes, hidden_size=hidden_size)
        check_sizes(local_size=local_size, embedding_size=embedding_size)
        if not local_weight >= 0:
            raise ValueError(f"local_weight is {local_weight}: it must be at least 0")
        columns = list(groups.values()) or [tuple(range(dims))]
        order = [column for group in columns for column in group]
        if sorted(order) != list(range(dims)) or not all(columns):
            raise ValueError(
                f"groups have {len(order)} columns: each of {dims} columns must be in one group"
            )
        self.local_weight = local_weight
        self.widths = [len(group) for group in columns]
        # Not saved: the feature set decides the order.
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.local = nn.ModuleList(
            LocalClassifier(width, hidden_size, local_size, classes, dropout)
            for width in self.widths
        )
        self.projection = nn.Linear(len(columns) * local_size, embedding_size)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(embedding_size, classes)

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        vectors = single_vectors(current)[:, self.order].split(self.widths, dim=1)
        of_groups = [
            classifier(group) for classifier, group in zip(self.local, vectors, strict=True)
        ]
        features = torch.cat([feature for feature, _ in of_groups], dim=1)  # (batch, G * local)
        parts = torch.stack([logits for _, logits in of_groups], dim=1)  # (batch, G, classes)
        embedding = torch.relu(self.projection(features))
        return Output(self.output(self.dropout(embedding)), embedding, {}, parts=parts)

    def extra_loss(self, output: Output, labels: Tensor, speakers: Tensor) -> Tensor:
        """`local_weight` * the mean over groups of their cross-entropy, summed over the batch."""
        assert output.parts is not None
        parts = output.parts.float()  # half precision under autocast
        targets = labels[:, None].expand(parts.shape[:2])
        loss = nn.functional.cross_entropy(parts.flatten(0, 1), targets.flatten(), reduction="sum")
        return self.local_weight / parts.shape[1] * loss
