"""The models and their layers: plain PyTorch, chosen by name.

A builder takes `dims` (descriptors a frame), `classes` (their number) and its hyperparameters as
keywords with defaults. What an entry fixes is what the model is; the other keywords are what a
configuration may set under `model`.
"""

from functools import partial

from ser_models.iaan import IAAN

MODELS: dict[str, partial[IAAN]] = {
    "iaan": partial(IAAN, context="previous", predict_from_context=True),
    "rand_iaan": partial(IAAN, context="random", predict_from_context=True),
    "bigru_iaa": partial(IAAN, context="previous", predict_from_context=False),
    "bigru_att": partial(IAAN, context="none", predict_from_context=False),
}
