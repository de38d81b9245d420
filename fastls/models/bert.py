"""BERT with one small head per task, for STS-B: the encoder is nearly all of the cost.

Devlin et al. (2018), https://arxiv.org/abs/1810.04805, in the implementation of Hugging Face. The paper says "two fully
connected layers were used as the decoder"; their width, 768, is our choice.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from fastls.models.multitask import MultiTaskModel

HEAD = 64  # width of an attention head in BERT-base
VOCABULARY = 30_522  # of bert-base-uncased


class BertEncoder(nn.Module):
    """z = tanh(W h_[CLS] + b), BERT's pooled output (B, width), from a dict of BERT's arguments.

    Args:
        bert: the network.
        autocast: run the network in bfloat16 where PyTorch considers this safe; z stays float32.
    """

    def __init__(self, bert: BertModel, autocast: bool = False):
        super().__init__()
        self.bert = bert
        self.autocast = autocast

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        device = inputs["input_ids"].device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.autocast):
            return self.bert(**inputs).pooler_output.float()


def bert(
    tasks: tuple[str, ...] = ("score_1", "score_2", "score_3"),
    layers: int = 12,
    width: int = 768,
    decoder_width: int = 768,
    autocast: bool = False,
    checkpoint: Path | None = None,
    heads: int | None = None,
) -> MultiTaskModel:
    """BERT (the defaults are BERT-base) and, per task, two fully connected layers with mean squared error.

    Attention is PyTorch's `scaled_dot_product_attention`; dropout is BERT's, 0.1, in the decoders too.

    Args:
        tasks: names of the tasks.
        layers: of the encoder.
        width: of its hidden states.
        decoder_width: of the layer between z and a task's one output.
        autocast: the encoder in bfloat16.
        checkpoint: folder with ``config.json`` and ``model.safetensors``; None for random weights, from torch's
            generator. Never looks beyond this folder.
        heads: attention heads of a layer, a divisor of `width`; None for heads of 64, as BERT-base has.

    Returns:
        MultiTaskModel whose encoder takes a dict with input_ids, token_type_ids and attention_mask, each (B, L), and
        returns z of shape (B, width); decoders return (B,).

    Raises:
        ValueError: a width that the heads do not divide, or a checkpoint that is unreadable, lacks weights, or has
            another size or vocabulary.

    Example:
        >>> model = bert(layers=1, width=64)
        >>> tokens = torch.randint(VOCABULARY, (4, 7))
        >>> inputs = {"input_ids": tokens, "token_type_ids": 0 * tokens, "attention_mask": torch.ones_like(tokens)}
        >>> model(inputs)["score_1"].shape
        torch.Size([4])
    """
    if heads is None and (width < HEAD or width % HEAD):
        raise ValueError(f"`width` must be a multiple of {HEAD}, the width of a head, or `heads` given; found {width}.")
    heads = width // HEAD if heads is None else heads
    if heads < 1 or width % heads:
        raise ValueError(f"`heads` must divide `width`, found {heads} and {width}.")
    config = BertConfig(
        vocab_size=VOCABULARY,
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        initializer_range=0.02 * (768 / width) ** 0.5,  # so that outputs of a narrow layer are as large as BERT-base's
        attn_implementation="sdpa",
    )
    network = BertModel(config) if checkpoint is None else read_checkpoint(checkpoint, config)
    dropout = config.hidden_dropout_prob
    decoders = {
        task: nn.Sequential(
            nn.Linear(width, decoder_width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(decoder_width, 1),
            nn.Flatten(0),
        )
        for task in tasks
    }
    return MultiTaskModel(BertEncoder(network, autocast), decoders, dict.fromkeys(tasks, F.mse_loss))


def read_checkpoint(folder: Path, config: BertConfig) -> BertModel:
    """BERT with the weights of a folder, after a check that they fit this configuration."""
    try:
        found = BertConfig.from_json_file(folder / "config.json")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} must hold the config.json of a checkpoint, found none ({error}).") from error
    for name in ("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"):
        if getattr(found, name) != getattr(config, name):
            raise ValueError(
                f"The checkpoint in {folder} must fit the model and the tokens, `{name}` {getattr(config, name):,}, "
                f"found {getattr(found, name):,}; use random weights or another checkpoint."
            )
    try:
        network, report = BertModel.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        what = type(error).__name__
        raise ValueError(f"{folder} must hold the weights of BERT, found none readable ({what}: {error}).") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted(str(key) for key in [*report["missing_keys"], *report["mismatched_keys"]])
        raise ValueError(f"The checkpoint in {folder} must hold all weights of BERT, found none for {lacking[0]}.")
    return network
