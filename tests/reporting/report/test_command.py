import pytest
from helpers.reports import predictions, save_run

from anomalib_memmc import cli


@pytest.fixture
def run(tmp_path):
    return save_run(tmp_path / "v0")


def test_report_is_written_into_the_run(run, capsys):
    assert cli.main(["report", str(run)]) == 0
    assert f"Report: {run / 'report.html'}" in capsys.readouterr().out
    assert (run / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_report_is_written_where_it_is_wanted(run, tmp_path):
    output = tmp_path / "new" / "mine.html"
    assert cli.main(["report", str(run), "--output", str(output)]) == 0
    assert output.is_file()
    assert not (run / "report.html").exists()


def test_several_runs_are_compared(run, tmp_path):
    other = save_run(tmp_path / "v1", predictions(seed=1))
    assert cli.main(["report", str(run), str(other)]) == 0
    assert (run / "comparison.html").is_file()
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "has no predictions.csv: give the folder of a run that was tested"),
        (lambda path: path.write_text(""), "predictions.csv cannot be read"),
        (
            lambda path: path.write_text("image_path,gt_label,pred_score,raw_score\na,1,2,3\n"),
            "not written by a test of",
        ),
        (lambda path: path.write_text("image_path,pred_score\na,1\n"), "lacks gt_label"),
        (lambda path: path.write_text("image_path,gt_label,pred_score\n"), "holds no image"),
        (lambda path: path.write_text("image_path,gt_label,pred_score\na,1,high\n"), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    ],
)
def test_a_folder_that_is_no_run_is_one_message(run, capsys, damage, message):
    damage(run / "predictions.csv")
    assert cli.main(["report", str(run)]) == 1
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not (run / "report.html").exists()


def test_other_mistakes_are_one_message(run, capsys):
    for arguments, message in (
        (["nowhere"], "There is no folder nowhere"),
        ([str(run), "--output", str(run)], "is a folder: give the name of a file"),
        ([str(run), str(run / ".." / "v0")], "is the same run as"),
    ):
        assert cli.main(["report", *arguments]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]
