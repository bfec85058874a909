from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[1] / "cluster.yaml"


def test_rays_own_validator_takes_the_cluster_file():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(FILE.read_text())
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="nonsense"):  # the validator does refuse
        validate_config(prepare_config(config | {"nonsense": 1}))


def test_the_head_computes_nothing_and_workers_start_from_none():
    types = yaml.safe_load(FILE.read_text())["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert all(kind["min_workers"] == 0 for kind in types.values())
