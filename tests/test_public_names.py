import pytest

import resnet_backbones as rb


def test_the_module_lists_its_public_names_and_no_others():
    assert set(rb.__all__) <= set(dir(rb))
    assert rb.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        rb.nonsense  # noqa: B018


@pytest.mark.parametrize("name", rb.__all__)
def test_every_public_name_is_there(name):
    assert getattr(rb, name) is not None
