"""What the page says: the numbers of the run, and which part is missing and why."""

import json
import re
import shutil

import numpy as np
import pytest
from helpers.reports import LEARNT, NORMALS, facts, predictions, save_run, text
from scipy.stats import betabinom
from sklearn.metrics import roc_auc_score

from anomalib_memmc.metrics import matched_auroc
from anomalib_memmc.reporting.report.page import write_report

SECTIONS = ["data", "curves", "points", "scores", "trivial", "localisation", "cases", "promise", "card"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of a run of which everything is known."""
    return page(save_run(tmp_path_factory.mktemp("run")))


def page(folder):
    return write_report(folder).read_text(encoding="utf-8")


def section(markup, name):
    return text(re.search(rf'<section id="{name}">.*?</section>', markup, flags=re.DOTALL)[0])


def missing(markup):
    """The sections that say that something is not there."""
    return {name for name in SECTIONS if "Not here:" in section(markup, name)}


def test_nothing_is_missing_where_everything_is_known(whole):
    assert missing(whole) == set()
    assert re.findall(r'<section id="(\w+)">', whole) == SECTIONS


def test_the_verdict_is_that_of_the_table(whole):
    table = predictions()
    words = text(whole)
    sick, well = table[table["gt_label"] == 1], table[table["gt_label"] == 0]
    assert f"{table['label'].sum()} of 70 test images were called anomalous" in words
    assert f"{sick['label'].sum()} of the 30 anomalous ones ({100 * sick['label'].mean():.1f} %" in words
    assert f"{well['label'].sum()} of the 40 normal ones ({100 * well['label'].mean():.1f} %" in words
    assert f"promises false alarms on {100 * LEARNT.rate:.1f} % of normal images" in words
    assert f"AUROC {roc_auc_score(table['gt_label'], table['score']):.3f}, 95 % interval" in words
    best = max(roc_auc_score(table["gt_label"], table[name]) for name in ("mean_intensity", "file_bytes"))
    assert f"the best trivial cue, file size, takes no model and reaches {best:.3f}" in words
    matched = matched_auroc(table["score"], table["gt_label"], table["file_bytes"])
    assert f"{matched.value:.3f} ± {matched.standard_error:.3f}" in words


def test_maps_that_outline_no_better_than_a_glance_are_said(tmp_path):
    folder = save_run(tmp_path)
    record = folder / "report" / "test.json"
    kept = json.loads(record.read_text())
    kept["localisation"] |= {"best": [0.2, 0.3], "brightness": [0.3, 0.4], "centre": [0.1, 0.1]}
    record.write_text(json.dumps(kept))
    said = "outline what is anomalous no better than the brightness of the image: IoU 0.250 against 0.350"
    assert said in text(page(folder))
    kept["localisation"]["best"] = [0.5, 0.5]
    record.write_text(json.dumps(kept))
    assert "no better than the brightness" not in text(page(folder))


def test_operating_points(whole):
    table = predictions()
    words = section(whole, "points")
    normals = np.sort(table.loc[table["gt_label"] == 0, "score"])
    for share, rank in ((0.9, 36), (0.95, 38)):  # of 40 normal images
        found = int((table.loc[table["gt_label"] == 1, "score"] > normals[rank - 1]).sum())
        expected = rf"specificity {100 * share:.0f} % \S+ {found} of 30: \S+ % \([\d.]+ to [\d.]+\) {rank} of 40:"
        assert re.search(expected, words), words


def test_false_alarms_at_several_rates(whole):
    table = predictions()
    words = section(whole, "promise")
    well = table[table["gt_label"] == 0]
    above = int(0.1 * (len(NORMALS) + 1))
    alarms = int((well["p_value"] <= above / (len(NORMALS) + 1) + 1e-9).sum())
    low, high = betabinom(40, above, len(NORMALS) + 1 - above).ppf([0.025, 0.975]).astype(int)
    assert f"10.0 % 10.0 % {alarms} of 40 ({100 * alarms / 40:.1f} %) {low} to {high}" in words
    assert "1.0 % takes 99 held-out images" in words


def test_data_and_card(whole):
    assert "training 100 0 0 50" in section(whole, "data")
    assert "No image of the test is in another part too" in section(whole, "data")
    card = section(whole, "card")
    for words in ("MemMCMAE, 12,345 weights", "40 epochs, 600 steps", "1 h 2 min", "commit 0123456789ab", "model 3"):
        assert words in card
    assert "no medical device" in card
    assert "image_F1Score not defined here" in card


def test_findings_of_the_integrity_check_are_told(tmp_path):
    run = save_run(tmp_path)
    stored = run / "report" / "test.json"
    stored.write_text(stored.read_text().replace('"findings": []', '"findings": ["the masks of 2 images are empty."]'))
    assert "The masks of 2 images are empty." in section(page(run), "data")
    assert "Nothing else was found" not in section(page(run), "data")
    stored.write_text(
        stored.read_text().replace('"findings": ["the masks of 2 images are empty."]', '"findings": null')
    )
    assert "Frames does not check its images" in section(page(run), "data")


def test_the_predictions_alone_give_curves_and_thresholds(tmp_path):
    markup = page(save_run(tmp_path, record=False))
    assert missing(markup) == {"data", "localisation", "cases", "promise", "card"}
    assert "report/test.json is missing" in section(markup, "cases")
    assert "AUROC 0." in section(markup, "curves")


def test_thresholds_beside_the_checkpoint_serve_where_the_test_kept_none(tmp_path):
    run = save_run(tmp_path, record=False)
    path = run / "weights" / "lightning" / "thresholds.json"
    path.parent.mkdir(parents=True)
    thresholds = facts()["thresholds"]
    path.write_text(repr(thresholds).replace("'", '"'))
    assert "promise" not in missing(page(run))
    path.write_text(repr({**thresholds, "image_threshold": 99.0}).replace("'", '"'))
    assert "promise" in missing(page(run))  # of another training


@pytest.mark.parametrize(("normal", "anomalous", "kind"), [(40, 0, "normal"), (0, 30, "anomalous")])
def test_one_class_has_no_auroc(tmp_path, normal, anomalous, kind):
    markup = page(save_run(tmp_path, predictions(normal, anomalous)))
    words = text(markup)
    assert f"There is no AUROC: it takes images of both classes, and all test images are {kind}." in words
    assert not re.search(r"AUROC \d", words)
    expected = {"curves", "points", "trivial"} | ({"localisation"} if kind == "normal" else {"promise"})
    assert missing(markup) == expected
    assert "sensitivity at 90 and 95 % specificity" in section(markup, "points")


def test_without_masks_there_is_no_iou(tmp_path):
    markup = page(save_run(tmp_path, masks=False))
    assert missing(markup) == {"localisation"}
    assert "no masks of anomalous images" in section(markup, "localisation")


def test_without_a_threshold_nothing_was_judged(tmp_path):
    table = predictions().drop(columns=["percentile", "p_value"])
    table["threshold"] = table["label"] = np.nan
    markup = page(save_run(tmp_path, table, thresholds=False))
    assert "None of the 70 test images was judged" in text(markup)
    assert missing(markup) == {"points", "promise"}
    assert "no threshold was learnt" in section(markup, "cases")


def test_without_truth_only_the_verdicts_are_told(tmp_path):
    table = predictions()
    table["gt_label"] = np.nan
    markup = page(save_run(tmp_path, table, record=False))
    assert f"{table['label'].sum()} of 70 test images were called anomalous; what they truly are is not known." in text(
        markup
    )
    assert {"curves", "points", "scores", "trivial", "promise"} <= missing(markup)


def test_pictures_that_are_gone_are_counted(tmp_path):
    run = save_run(tmp_path)
    kept = len(list((run / "report" / "cases").glob("???.jpg")))
    (run / "report" / "cases" / "000.jpg").unlink()
    assert "1 more were kept, but their files are missing" in section(page(run), "cases")
    shutil.rmtree(run / "report" / "cases")
    assert f"the files of all {kept} cases are missing" in section(page(run), "cases")


def test_scores_that_are_not_finite_are_counted(tmp_path):
    table = predictions()
    table.loc[0, "score"] = np.nan
    assert "1 images have no finite score and count nowhere" in text(page(save_run(tmp_path, table, record=False)))


def test_patients_are_drawn_as_a_whole(tmp_path):
    table = predictions()
    table["group"] = [f"p{index // 5}" for index in range(70)]
    words = text(page(save_run(tmp_path, table)))
    assert "The 70 images are of 14 patients" in words
    assert "in whole patients or groups" in words


def test_a_broken_promise_is_told(tmp_path):
    table = predictions(shift=0)
    table.loc[:19, "label"] = 1
    words = text(page(save_run(tmp_path, table)))
    assert "There are more false alarms than chance explains" in words
    assert "interval of the AUROC includes 0.5" in words
    assert "A trivial cue tells the classes apart no worse than the model: file size" in words


def test_names_cannot_run_code(tmp_path):
    table = predictions()
    table["image_path"] = [f"data/<script>alert({index})</script>.png" for index in range(70)]
    table["stratum"] = "<b>"
    markup = page(save_run(tmp_path, table))
    assert "<script>alert" not in markup
    assert "&lt;b&gt;" in markup


def test_it_needs_no_network_and_every_picture_has_words(whole):
    addresses = re.findall(r'(?:src|href)="([^"]*)"', whole)
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", whole)
    pictures = re.findall(r'<img class="image"[^>]*alt="([^"]*)"', whole)
    pictures += re.findall(r'<figure><img src="[^"]*" alt="([^"]*)"', whole)
    assert len(pictures) > 50
    assert all(pictures)


def test_500_images_stay_below_15_mb(tmp_path):
    table = predictions(300, 200)
    run = save_run(tmp_path, table, size=256)  # noise, the worst case of a picture
    assert write_report(run).stat().st_size < 15e6
    assert text(page(run)).count("Truth:") == 72
