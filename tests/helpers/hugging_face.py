"""The independent MAE of Hugging Face, with random weights."""

import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

SIZES = {
    "patch_size": 8,
    "encoder_dim": 32,
    "encoder_depth": 3,
    "encoder_heads": 4,
    "decoder_dim": 16,
    "decoder_depth": 2,
    "decoder_heads": 2,
}
"""Arguments of our model of the same sizes."""


def make_mae(side: int = 32, seed: int = 0) -> ViTMAEForPreTraining:
    """A ViTMAE with every parameter random, so that no name can be mixed up unseen."""
    config = ViTMAEConfig(
        image_size=side,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
        layer_norm_eps=1e-6,  # the original MAE's; the default here is 1e-12
        norm_pix_loss=False,
    )
    torch.manual_seed(seed)
    mae = ViTMAEForPreTraining(config).eval()
    for name, parameter in mae.named_parameters():
        parameter.data += (0.5 if "pos" in name else 0.05) * torch.randn_like(parameter)
    return mae


def encoder_layers(mae: ViTMAEForPreTraining) -> torch.nn.ModuleList:
    """The blocks of the encoder, under the names of transformers 5 or 4."""
    return mae.vit.layers if hasattr(mae.vit, "layers") else mae.vit.encoder.layer


def widen(mae: ViTMAEForPreTraining, rows: int, columns: int) -> None:
    """Give it a grid that is not square; its configuration has no word for that."""
    embeddings, decoder, side = mae.vit.embeddings, mae.decoder, 8
    embeddings.image_size = embeddings.patch_embeddings.image_size = (rows * side, columns * side)
    embeddings.num_patches = embeddings.patch_embeddings.num_patches = rows * columns
    embeddings.position_embeddings = torch.nn.Parameter(torch.randn(1, 1 + rows * columns, 32))
    decoder.decoder_pos_embed = torch.nn.Parameter(torch.randn(1, 1 + rows * columns, 16))
