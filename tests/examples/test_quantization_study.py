"""The quantization study: its intervals are of COCO's figure, its files and scores are what they say, runs are kept."""

from __future__ import annotations

import json

import digits
import evaluation
import numpy as np
import pytest
import quantization_study
import quickstart
import study_detection
import study_intervals
import study_tables

import resnet_backbones as rb
from resnet_backbones.export.litert.census import take_census
from resnet_backbones.keras_compat import keras
from resnet_backbones.runtime import Detections


@pytest.fixture(scope="module")
def scenes():
    return digits.make_scenes(60, "validation", seed=1)


@pytest.fixture(scope="module")
def found(scenes):
    """Three boxes for every digit, each off by some pixels and sometimes of the wrong class; scores with ties."""
    random = np.random.default_rng(0)

    def off(one):
        boxes, classes = np.tile(one.boxes, (3, 1)), np.tile(one.classes, 3)
        boxes = np.maximum(boxes + random.normal(0, 3, boxes.shape), 1).astype("float32")
        classes = np.where(random.random(len(classes)) < 0.15, (classes + 1) % 10, classes)
        return Detections(boxes, classes, random.random(len(classes)).round(2).astype("float32"))

    return [off(one) for one in evaluation.truth_of(scenes)]


def map50(scenes, found, weights):
    classes = [one.average_precision(weights[None])[0] for one in study_intervals.match(scenes, found)]
    return 100 * np.nanmean(classes)


def test_average_precision_is_cocos(scenes, found):
    expected = evaluation.coco_accuracy(scenes, found).map50
    assert 30 < expected < 90
    assert map50(scenes, found, np.ones(len(scenes), int)) == pytest.approx(expected, abs=1e-9)


def test_an_image_drawn_twice_counts_twice(scenes, found):
    weights = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60))
    drawn = np.repeat(np.arange(60), weights)
    repeated = digits.Scenes(scenes.images[drawn], scenes.boxes[drawn], scenes.classes[drawn])
    expected = evaluation.coco_accuracy(repeated, [found[i] for i in drawn]).map50
    assert abs(expected - evaluation.coco_accuracy(scenes, found).map50) > 0.5
    assert map50(scenes, found, weights) == pytest.approx(expected, abs=0.05)  # copies of an image share their scores


def test_resamples_scatter_about_the_figure_and_are_the_same_for_every_detector(scenes, found):
    resampled = study_intervals.resampled_map50(scenes, found, 200)
    low, high = study_intervals.interval(resampled)
    assert low < evaluation.coco_accuracy(scenes, found).map50 < high
    assert resampled == study_intervals.resampled_map50(scenes, found, 200)
    assert study_intervals.resampled_map50(scenes, evaluation.truth_of(scenes), 20) == [100.0] * 20


def test_nothing_found_is_nothing(scenes):
    nothing = [Detections(np.zeros((0, 4)), np.zeros(0, "int64"), np.zeros(0))] * len(scenes)
    assert study_intervals.resampled_map50(scenes, nothing, 3) == [0.0] * 3


def test_the_converters_own_int8_gives_the_outputs_by_their_names():
    images = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    outputs = {
        "classification": keras.layers.Reshape((-1, 10))(keras.layers.Conv2D(10, 1)(x)),
        "box": keras.layers.Reshape((-1, 4))(keras.layers.Conv2D(4, 1)(x)),
    }
    model = keras.Model(images, outputs)
    data = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    file = study_detection.converter_int8(model, data)
    assert take_census(file).int8_share == 1.0
    exported = study_detection.raw_of_converted(file, model)(data)
    expected = study_detection.raw_of_keras(model)(data)
    assert set(exported) == {"box", "classification"}
    for name, values in expected.items():
        assert exported[name].shape == values.shape
        error = np.abs(exported[name] - values).max()
        assert 0 < error < 0.05 * np.ptp(values)


@pytest.fixture
def untrained(monkeypatch):
    """No step of training: what remains is loading, quantizing, exporting, decoding and scoring."""
    trained = []

    def train(study, model, data, rate, steps, epochs, callbacks=()):
        study.compile(model, rate)
        first = next(iter(data))
        trained.append((rate, steps, epochs, first["images"].numpy()))
        return model

    def backbone(plan):
        return rb.create_backbone("resnet10t", input_shape=(96, 96, 3), preprocessing="minus_one_to_one")

    monkeypatch.setattr(study_detection, "train", train)
    monkeypatch.setattr(quickstart, "pretrained_backbone", backbone)
    return trained


@pytest.mark.exhaustive  # two minutes
def test_a_run_scores_every_detector_and_goes_on_from_its_files(untrained, tmp_path):
    study = study_detection.Study("retinanet", "resnet10t", (0,), 4)
    plan = quantization_study.QUICK
    facts = study_detection.run(study, 0, plan, tmp_path)
    assert set(facts["results"]) == {*study_tables.COLUMNS, *sum(study_tables.SCHEMES.values(), ())}
    for figures in facts["results"].values():
        assert 0 <= figures["map"] <= figures["map50"] <= 100
        assert len(figures["resampled_map50"]) == study_intervals.RESAMPLES
    for name in ("converter_int8", "post_training_int8", "exported"):
        assert facts["results"][name]["int8_mac_share"] > 0.99
    assert min(facts["results"]["exported"]["cosine"].values()) > 0.9
    (_, *control), (_, *aware), *_ = untrained[1:]
    assert control[:2] == aware[:2]  # steps and epochs
    np.testing.assert_array_equal(control[2], aware[2])  # the same images first

    aware_model = rb.load_model(tmp_path / "aware.keras")
    assert rb.quantization.quantization_of(aware_model)["scheme"]["name"] == "edge_int8"
    (tmp_path / "control.keras").unlink()
    untrained.clear()
    again = study_detection.run(study, 0, plan, tmp_path)
    assert len(untrained) == 1  # the control alone
    assert again["results"]["exported"] == facts["results"]["exported"]


def test_yolo_v8_is_decoded_from_the_raw_outputs(scenes):
    study = study_detection.Study("yolo_v8", "resnet10t", (0,), 4)
    model = study.build(rb.create_backbone("resnet10t", input_shape=(96, 96, 3), preprocessing="minus_one_to_one"))
    study.compile(model, 1e-3)
    scored = []

    def raw(images):
        outputs = study_detection.raw_of_keras(model)(images)
        scored.append({name: value.shape for name, value in outputs.items()})
        return outputs

    figures = study_detection.score("yolo", raw, model, scenes[:8])
    assert scored == [{"boxes": (8, 189, 64), "classes": (8, 189, 10)}]
    assert 0 <= figures["map50"] < 50


def record(study, seed, exported, aware=91.0, control=91.2):
    points = {"float": 90.5, "control": control, "converter_int8": 90.1, "post_training_int8": 90.4}
    points |= {"aware": aware, "exported": exported, "aware_portable": 90.8, "exported_portable": 90.7}
    random = np.random.default_rng(seed)
    common = random.normal(0, 1, 100)
    results = {
        name: {"map50": value, "map": 60.0, "resampled_map50": (value + common).tolist()}
        for name, value in points.items()
    }
    results["exported"]["int8_mac_share"] = 1.0
    return {"study": study, "seed": seed, "validation_images": 1000, "results": results}


def test_tables_hold_the_paired_differences(tmp_path):
    document = tmp_path / "page.md"
    document.write_text(f"before\n{study_tables.BEGIN}\nold\n{study_tables.END}\nafter\n")
    for seed, exported in enumerate((91.2, 90.9, 90.9)):
        (tmp_path / f"a-{seed}.json").write_text(json.dumps(record("a", seed, exported)))
    study_tables.write_tables(tmp_path, document, ["a-0", "a-1", "a-2", "b-0"])
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    # The mean of 0.2, 0.1 and 0.1 without their signs; the images' noise is common to both, so it cancels.
    assert "| a | 3 | 0.13 [+0.00, +0.00] ± 0.43 | -0.20 [-0.20, -0.20] ± 0.00 | +0.60 [+0.60, +0.60] ± 0.00 |" in text
    assert "| a | `portable_int8`, LiteRT | 3 | 90.80 | 90.70 | 0.10 [-0.10, -0.10] |" in text
    assert "`gpu_int8`" not in text
    assert "Not run yet: b-0." in text
    study_tables.write_tables(tmp_path, document, ["a-0", "a-1", "a-2"])
    assert "Not run yet" not in document.read_text()


def test_a_document_without_markers_is_left_alone(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("nothing here\n")
    with pytest.raises(ValueError, match="study: begin"):
        study_tables.write_tables(tmp_path, document, [])
    assert document.read_text() == "nothing here\n"


def test_runs_that_ended_are_not_run_again(tmp_path, monkeypatch):
    ran = []

    def detect(name, seed, quick):
        ran.append((name, seed, quick))
        return {"results": {}, "resampled": [1.0, 2.0]}

    monkeypatch.setattr(quantization_study, "detect", detect)
    words = ["--only", "retinanet_resnet18", "--quick", "--results", str(tmp_path)]
    quantization_study.main([*words, "--seed", "1"])
    quantization_study.main(words)
    assert ran == [("retinanet_resnet18", seed, True) for seed in (1, 0, 2)]
    text = (tmp_path / "retinanet_resnet18-1.json").read_text()
    assert '"resampled": [ 1.0, 2.0 ]' in text
    assert json.loads(text) == {"study": "retinanet_resnet18", "seed": 1, "results": {}, "resampled": [1.0, 2.0]}


def test_a_seed_that_is_not_studied_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        quantization_study.main(["--only", "yolo_v8_resnet18", "--seed", "2", "--results", str(tmp_path / "none")])
    assert "yolo_v8_resnet18 has the seeds [0], not 2" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
