import pytest
from helpers.reports import predictions, save_run, text

from anomalib_memmc.metrics import paired_difference
from anomalib_memmc.reporting.report.comparison import names, write_comparison


@pytest.fixture
def tables():
    return predictions(seed=0, shift=0.5), predictions(seed=1, shift=3)


def compared(tmp_path, *tables):
    runs = [save_run(tmp_path / f"v{index}", table) for index, table in enumerate(tables)]
    return text(write_comparison(runs).read_text(encoding="utf-8"))


def test_differences_are_those_of_the_same_images(tmp_path, tables):
    first, second = tables
    words = compared(tmp_path, first, second.sample(frac=1, random_state=0))  # in another order
    value = paired_difference(second["score"], first["score"], first["gt_label"])
    assert f"v1 orders the images better than v0: AUROC {value.value:+.3f} ± {value.standard_error:.3f}" in words
    assert f"v1 {value.value:+.3f} ± {value.standard_error:.3f} {30 * 40}" in words


def test_a_difference_within_chance_is_none(tmp_path, tables):
    words = compared(tmp_path, tables[0], tables[0].assign(score=tables[0]["score"] * 2))
    assert "v1 is not shown to differ from v0: AUROC +0.000" in words


def test_a_data_set_that_was_moved_is_the_same(tmp_path, tables):
    moved = tables[1].assign(image_path="elsewhere/" + tables[1]["image_path"])
    assert "v1 orders the images better" in compared(tmp_path, tables[0], moved)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda table: table.iloc[1:], "not tested on the same images"),
        (lambda table: table.assign(gt_label=1 - table["gt_label"]), "do not agree on the truth"),
    ],
)
def test_other_images_or_labels_are_not_compared(tmp_path, tables, change, why):
    words = compared(tmp_path, tables[0], change(tables[1]))
    assert f"v1 and v0 cannot be compared image by image, since the two {'were ' * ('tested' in why)}{why}" in words
    assert "orders the images" not in words


def test_runs_of_one_class_have_no_curve(tmp_path):
    words = compared(tmp_path, predictions(40, 0), predictions(40, 0, seed=1))
    assert "there is no AUROC where all images are of one class" in words
    assert "Not here: the curve of v1" in words


def test_what_weakens_a_run_is_said_once_with_its_name(tmp_path, tables):
    chance = tables[0].assign(score=tables[0]["score"].sample(frac=1, random_state=0).to_numpy())
    words = compared(tmp_path, tables[1], chance)
    care = words[words.index("Read with care") :]
    assert "v1: The interval of the AUROC includes 0.5" in care
    assert "v0: The interval" not in care
    care = compared(tmp_path / "again", chance, chance.assign(score=chance["score"] * 2))
    assert care.count("The interval of the AUROC includes 0.5") == 1
    assert "All: The interval" in care


def test_runs_are_told_apart_by_what_differs(tmp_path):
    folders = [tmp_path / name for name in ("a/Model/v0", "b/Model/v0")]
    for folder in folders:
        folder.mkdir(parents=True)
    assert names(folders) == ["a", "b"]
    assert names([*folders, tmp_path / "b" / "Model" / "v1"]) == ["a/Model/v0", "b/Model/v0", "b/Model/v1"]
    assert names([tmp_path / "a", folders[0]]) == ["a", "a/Model/v0"]
    (tmp_path / "latest").symlink_to(folders[0])
    assert names([tmp_path / "latest", folders[1]]) == ["a", "b"]
    with pytest.raises(ValueError, match="is the same run as"):
        names([folders[0], tmp_path / "latest"])
