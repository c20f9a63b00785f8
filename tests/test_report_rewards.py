"""The page's section on reward models: made from reward.json alone, escaped, and honest when nothing was held out."""

import json
from html.parser import HTMLParser

import pytest

from posttrain import calibration, report
from posttrain.calibration import Judged
from posttrain.pipeline import Record
from posttrain.report import rewards


def folder(root, told):
    """A finished reward stage that only has its record and reward.json."""
    path = root / "rm-0123456789"
    path.mkdir(parents=True)
    record = Record(
        stage="rm", type="reward", makes="reward", fingerprint="0123456789", knobs={}, edges={}, inputs={}, identity={},
        metrics={}, seconds=1.0, peak_gib=0.1, started=0.0, versions={},
    )  # fmt: skip
    (path / "record.json").write_text(record.model_dump_json())
    (path / "reward.json").write_text(json.dumps(told))
    return path


def judged(right, n=40):
    """n comparisons of which the first `right` are scored right; the longer answer is preferred in half of them."""
    return [
        Judged(1.0 if k < right else -1.0, 0.1 * (k % 3), 10 + k % 2, 10 + (k + 1) % 2, str(k), f"<b>{k % 2}</b>")
        for k in range(n)
    ]


def page(tmp_path, told):
    return report.write(tmp_path / "r", "made", "", {"rm": folder(tmp_path, told)}, None, 0.0).read_text()


@pytest.mark.parametrize(
    ("right", "said"), [(40, "more than the"), (20, "not clearly more or less than the"), (0, "less than the")]
)
def test_accuracy_stands_beside_longer_is_better(tmp_path, right, said):
    """40, 20 or none of 40 right beside a length rule that is right in half."""
    told = {"members": 2, "loss": {"type": "robust"}, "held_out": calibration.report(judged(right))}
    text = page(tmp_path, told)
    assert f"{said} 50.0% of “longer is better”" in text
    assert "By source" in text and "&lt;b&gt;0&lt;/b&gt;" in text and "<b>0" not in text
    assert "By agreement of the members" in text and text.count("<svg") >= 3
    HTMLParser().feed(text)


def test_nothing_held_out_is_said(tmp_path):
    assert "nothing is known of its accuracy" in page(tmp_path, {"members": 1, "loss": {"type": "bradley_terry"}})


def test_no_reward_model_no_section():
    assert rewards.views([]) == []
