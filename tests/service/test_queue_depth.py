"""What /metrics says of the queues, whatever models are called."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.classifier import write_classifier
from tests.server import serving


def test_queue_of_a_model_is_never_taken_for_that_of_the_decode_workers(tmp_path: Path) -> None:
    for name in ("decode", "m"):
        write_classifier(tmp_path / "models", name, 1)
    with serving(tmp_path, repository=tmp_path / "models", decode_workers=1) as server:
        (depths,) = (
            family.samples
            for family in text_string_to_metric_families(server.metrics())
            if family.name == "clipserve_queue_depth"
        )
    queues = [(sample.labels["queue"], sample.labels["model"]) for sample in depths]
    assert sorted(queues) == [("batch", "decode"), ("batch", "m"), ("decode", "")]
