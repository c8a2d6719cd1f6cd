"""Matched AUROC as shared/design/evidence.md defines it: one pair at a time, in Python's own float64."""


def ranks(values):
    """Rank from 1 of each value; equal values share the mean of theirs."""
    less = [sum(other < value for other in values) for value in values]
    equal = [sum(other == value for other in values) for value in values]
    return [low + (same + 1) / 2 for low, same in zip(less, equal, strict=True)]


def matched_auroc(scores, labels, nuisance, caliper=0.05, rows=None):
    """Share of right orders, ties half, among pairs whose ranks differ by less than a share of the images; and pairs.

    ``rows``, where given, are the images that count, perhaps several times; ranks are those of all images.
    """
    rank, right, pairs = ranks(nuisance), 0.0, 0
    rows = range(len(labels)) if rows is None else rows
    for i in rows:
        for j in rows:
            if labels[i] == 1 and labels[j] == 0 and abs(rank[i] - rank[j]) < caliper * len(labels):
                pairs += 1
                right += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
    return (right / pairs if pairs else float("nan")), pairs


def draw_images(labels, generator):
    """Images drawn with replacement: as many normal ones as there are, then as many anomalous ones."""
    rows = []
    for kind in (0, 1):
        members = [i for i, label in enumerate(labels) if label == kind]
        rows += [members[k] for k in generator.integers(0, len(members), len(members))]
    return rows
