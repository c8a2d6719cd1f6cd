"""Arguments of the tiny Lightning model of the tests."""

TINY_MEMMC = {
    "image_size": 32,
    "patch_size": 8,
    "encoder_dim": 32,
    "encoder_depth": 2,
    "encoder_heads": 2,
    "decoder_dim": 32,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "memory_slots": 4,
}
FOUR_MASKS = {"num_masks": 4, "mask_sampler": "complementary"}
