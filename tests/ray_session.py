"""The Ray that tests share."""

import ray


def start_ray() -> None:
    """A local Ray of 2 CPUs and a GPU in name only."""
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 << 20,
    )
