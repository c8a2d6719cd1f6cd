"""The benchmark's own parts, on a network of a few numbers: ratios, the floor, and memory beside its estimate."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend

from experiments.performance.__main__ import main
from experiments.performance.device import attention_kernel
from experiments.performance.floor import Floor
from experiments.performance.parts import advances, parts
from experiments.performance.presets import PLAIN, Preset
from experiments.performance.sweep import sweep
from experiments.performance.table import Table
from experiments.performance.timing import Times, counting, multiply_adds, take_turns
from experiments.performance.training import RECOMPUTE, training

TINY = Preset(
    "tiny",
    2,
    {
        "image_size": 32,
        "patch_size": 8,
        "encoder_dim": 32,
        "encoder_depth": 2,
        "encoder_heads": 2,
        "decoder_dim": 16,
        "decoder_depth": 2,
        "decoder_heads": 2,
        "memory_slots": 4,
    },
    {"class_path": "anomalib_memmc.scoring.ReconstructionScorer", "init_args": {"num_masks": 2}},
)


def test_a_ratio_is_taken_round_by_round():
    slow, fast = Times((2.0, 6.0, 4.0)), Times((1.0, 2.0, 4.0))
    assert slow.over(fast).values == (2.0, 3.0, 1.0)
    assert str(slow.over(fast)) == "2.00 (1.00 to 3.00)"
    assert (slow.median, slow.best) == (4.0, 2.0)
    assert str(Times((2.0,)).over(Times((1.0,)))) == "2.00"


def test_calls_take_turns_and_the_first_round_does_not_count():
    order = []
    times = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert len(times["a"].values) == 2
    assert len(take_turns({"a": lambda: order.append("a")}, rounds=1, warm_up=2)["a"].values) == 1
    assert order[6:] == ["a"] * 3


def test_the_floor_takes_the_best_time_of_each_size():
    network = TINY.model(TINY.scorer()).network
    floor = Floor(network, visible=4, views=3, like=torch.empty(0))
    times = {name: Times((1.0, 3.0)) for name in floor.calls}
    seconds = sum(count / floor.repeats[size] for size, count in floor.sizes.items())
    assert floor.rate(times) == pytest.approx(floor.multiply_adds / seconds)
    levels, visible, wide, narrow = len(network.levels), 4, 32, 16
    assert floor.sizes[3 * visible * levels, wide, 2 * narrow] == 2  # keys and values, in each block
    for call in floor.calls.values():
        call()


def test_parts_of_scoring_are_all_of_it_and_count_their_own_products():
    model, images = TINY.model(TINY.scorer()), TINY.batch(2)
    score = partial(model.score, images)
    with counting() as counter:
        counted = advances(model, score, counter.get_total_flops)
    assert sum(counted.values()) == 2 * multiply_adds(score)
    views, tokens, inner, narrow, blocks = 4, 17, 64, 16, 2
    last = 12  # hidden patches: the last block computes no others
    assert counted["decoder: MLP"] == 2 * 2 * views * inner * narrow * (tokens * (blocks - 1) + last)
    assert counted["layer norms"] == 0
    assert not any(module._forward_hooks for module in model.modules())


def test_the_table_of_parts_adds_up():
    table = parts(TINY, rounds=1)
    for column in (1, 2):
        shares = [float(row[column].rstrip("%")) for row in table.rows if row[column] != "-"]
        assert sum(shares) == pytest.approx(100, abs=len(table.rows) / 2)
    assert {"error map", "attention to the levels, with gates", "encoder: MLP"} < {row[0] for row in table.rows}


@pytest.fixture
def in_this_process(monkeypatch):
    for module in ("training", "sweep"):
        monkeypatch.setattr(f"experiments.performance.{module}.in_fresh_process", lambda call, *values: call(*values))


@pytest.mark.usefixtures("in_this_process")
def test_a_training_step_has_its_ratio_and_its_memory_beside_the_estimate():
    table, rate = training(TINY, batch=4, rounds=1)
    assert rate > 0
    assert [row[0] for row in table.rows][-1] == "Hugging Face ViTMAE"
    for row in table.rows[:-1]:
        assert 0 <= float(row[3]) < 1
        assert 0 <= float(row[4]) < 1
    assert [row[0] for row in table.rows[:-2]] == [f"ours, recompute: {what}" for what in RECOMPUTE]
    assert table.rows[-2][2] == "1.00"
    assert TINY.model(TINY.scorer(), **PLAIN).network.levels == ()
    fewer, _ = training(TINY, batch=4, rounds=1, recompute=["gates"])
    assert [row[0] for row in fewer.rows] == ["ours, recompute: gates", *(row[0] for row in table.rows[-2:])]


@pytest.mark.usefixtures("in_this_process")
def test_the_sweep_trains_and_scores_in_each_batch():
    table = sweep(TINY, (1, 2), rounds=1)
    assert [row[0] for row in table.rows] == ["1", "2"]
    assert all(float(row[1]) > 0 and float(row[5]) > 0 for row in table.rows)
    assert ("Attention of the decoder" in table.note) == torch.cuda.is_available()


def test_the_kernel_is_named_as_torch_names_it():
    assert attention_kernel(2, 5, 4, 16, torch.float32) in SDPBackend.__members__


@pytest.mark.parametrize(
    ("option", "wrong", "message"),
    [
        ("--rounds", "0", "must be at least 1"),
        ("--batch", "-1", "must be at least 1"),
        ("--batches", "many", "invalid number value: 'many'"),
    ],
)
def test_impossible_numbers_are_refused_by_name(monkeypatch, capsys, option, wrong, message):
    monkeypatch.setattr("sys.argv", ["performance", option, wrong])
    with pytest.raises(SystemExit):
        main()
    assert f"argument {option}: {message}" in capsys.readouterr().err


def test_tables_are_added_below_the_command_that_printed_them(monkeypatch, tmp_path):
    table = Table("A table", ("", "x"), [("row", "1")])
    monkeypatch.setattr("experiments.performance.__main__.presets", lambda quick: [TINY])
    monkeypatch.setattr("experiments.performance.__main__.parts", lambda *_: table)
    for rounds in ("1", "2"):
        words = ["--section", "parts", "--rounds", rounds, "--output", str(tmp_path / "tables.md")]
        monkeypatch.setattr("sys.argv", ["performance", *words])
        main()
    parts_of_file = (tmp_path / "tables.md").read_text().split("## `python -m experiments.performance ")
    assert [part.partition("`")[0] for part in parts_of_file[1:]] == [
        f"--section parts --rounds {rounds} --output {tmp_path / 'tables.md'}" for rounds in (1, 2)
    ]
    assert all("| row | 1 |" in part for part in parts_of_file[1:])
