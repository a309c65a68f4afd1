"""Where weights are published: our table against what timm, torchvision, Keras and KerasHub themselves say.

When a library adds weights, a failing test's message holds the line to put into ``backbones/catalogue.py``.
"""

import math
import re

import keras
import keras_hub
import pytest
import timm
import torchvision

import resnet_backbones as rb
from resnet_backbones.backbones import catalogue as sources
from resnet_backbones.backbones import catalogue_tables as catalogue
from resnet_backbones.backbones.cost import outline
from resnet_backbones.weights.names import sources_of

INFOS = {info.name: info for info in catalogue.own_infos()}
CLASSES = 1000


def classifier_parameters(name):
    """Trainable numbers of our backbone with what its classifier adds."""
    spec = INFOS[name].spec
    whole = outline(spec.replace(include_head=True) if hasattr(spec, "include_head") else spec)
    return whole.parameters + CLASSES * (whole.output_channels + 1)


def timm_tags(name):
    """Timm's tags of weights on the Hugging Face Hub, its default first."""
    if name not in timm.list_models():
        return []
    names = {model for model in timm.list_pretrained(f"{name}.*") if model.partition(".")[0] == name}
    configs = [timm.get_pretrained_cfg(model) for model in sorted(names)]
    tags = [config.tag for config in configs if config.hf_hub_id == f"timm/{name}.{config.tag}"]
    default = timm.get_pretrained_cfg(name).tag
    return sorted(tags, key=lambda tag: (tag != default, tag))


@pytest.mark.parametrize("name", INFOS)
def test_timms_tags_are_timms(name):
    expected = " ".join(timm_tags(name))
    assert sources.TIMM.get(name, "") == expected, f'"{name}": "{expected}",'


@pytest.mark.parametrize("name", INFOS)
def test_torchvisions_weights_are_torchvisions(name):
    models = torchvision.models.list_models(module=torchvision.models)
    also = {"mobilenetv2_100": "mobilenet_v2"}.get(name, name)
    (*found,) = (model for model in dict.fromkeys((also, *INFOS[name].aliases)) if model in models)
    expected = ""
    if found:
        weights = torchvision.models.get_model_weights(found[0])
        # Weights of fewer parameters are those of another network by the same name.
        members = [one.name for one in weights if one.meta["num_params"] == classifier_parameters(name)]
        expected = " ".join([weights.__name__, *members])
        assert len(members) == len(weights)
    assert sources.TORCHVISION.get(name, "") == expected, f'"{name}": "{expected}",'


@pytest.mark.parametrize("name", sources.KERAS_APPLICATIONS)
def test_functions_of_keras_applications_make_the_same_network(name):
    function, arguments = re.fullmatch(r"(\w+)(?:\((.*)\))?", sources.KERAS_APPLICATIONS[name]).groups()
    options = dict(argument.split("=") for argument in arguments.split(",")) if arguments else {}
    options = {key: value == "True" if value in ("True", "False") else float(value) for key, value in options.items()}
    with keras.StatelessScope(initialize_variables=False):
        model = getattr(keras.applications, function)(weights=None, input_shape=(224, 224, 3), **options)
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == classifier_parameters(name)
    keras.backend.clear_session()


@pytest.mark.parametrize("name", sources.KERAS_HUB)
def test_presets_of_keras_hub_are_there_and_of_our_size(name):
    with keras.StatelessScope(initialize_variables=False):
        ours = rb.create_backbone(name).count_params()
    keras.backend.clear_session()
    backbones = (keras_hub.models.ResNetBackbone, keras_hub.models.MobileNetBackbone, keras_hub.models.CSPNetBackbone,
                 keras_hub.models.EfficientNetBackbone)  # fmt: skip
    presets = {preset: about for backbone in backbones for preset, about in backbone.presets.items()}
    for preset in sources.KERAS_HUB[name].split():
        # KerasHub counts the backbone's weights, its classifier's, or those of its classifier that train.
        whole = classifier_parameters(name)
        counts = (ours, ours + CLASSES * (outline(INFOS[name].spec).output_channels + 1), whole)
        assert presets[preset]["metadata"]["params"] in counts, preset


@pytest.mark.parametrize("name", [name for name, info in INFOS.items() if info.weights])
def test_every_source_has_a_converter(name):
    libraries = {"hf-hub": "timm", "keras.applications": "keras_applications"}
    wanted = {source.partition(":")[0] for source in INFOS[name].weights}
    assert {libraries.get(library, library) for library in wanted} <= set(sources_of(INFOS[name].spec))
