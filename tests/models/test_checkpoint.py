import argparse
import itertools
import os
import re
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models import CheckpointError, Network, create_model, load_checkpoint

NAME = "uniformer_tiny_shapes"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def network() -> Network:
    return create_model(NAME)


def saved(content: Any, folder: Path) -> Path:
    file = folder / "checkpoint.pth"
    torch.save(content, file)
    return file


def assert_same_weights(a: Network, b: Network) -> None:
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state", "model", "state_dict_ema", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_wrapper_loads(network: Network, tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    state = {prefix + key: value for key, value in network.state_dict().items()}
    # What training programs store beside the weights.
    extras = {"epoch": 300, "optimizer": {"state": {}, "param_groups": []}, "args": argparse.Namespace(lr=1e-3)}
    other = create_model(NAME)
    load_checkpoint(other, saved({wrapper: state, **extras} if wrapper else state, tmp_path))
    assert_same_weights(network, other)


# A file may have several, as of trained weights and their average; which one is taken does not hang on their order.
@pytest.mark.parametrize(
    ("first", "second"), [*itertools.combinations(["state_dict", "model_state", "model", "state_dict_ema"], 2)]
)
def test_wrappers_have_an_order_of_trust(network: Network, tmp_path: Path, first: str, second: str) -> None:
    state = network.state_dict()
    others = {key: torch.zeros_like(value) for key, value in state.items()}
    loaded = create_model(NAME)
    load_checkpoint(loaded, saved({second: others, first: state}, tmp_path))
    assert_same_weights(network, loaded)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ["weights.safetensors", "WEIGHTS.SAFETENSORS"])
def test_safetensors_loads(network: Network, tmp_path: Path, name: str, prefix: str) -> None:
    file = tmp_path / name
    save_file({prefix + key: value for key, value in network.state_dict().items()}, file)
    other = create_model(NAME)
    load_checkpoint(other, file)
    assert_same_weights(network, other)


def told(error: BaseException) -> str:
    """Return all that a traceback of the error shows of messages."""
    shown = "".join(traceback.format_exception(error))
    return "\n".join(line for line in shown.splitlines() if not line.startswith("    "))


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_pickle_with_code_is_refused_and_not_run(network: Network, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    file = saved({"model": network.state_dict(), "extra": _Bomb(trap)}, tmp_path)
    with pytest.raises(CheckpointError, match=r"more than tensors \((posix|os)\.mkdir\) and is not loaded") as caught:
        load_checkpoint(network, file)
    assert not trap.exists()
    assert "weights_only" not in told(caught.value)


@pytest.mark.parametrize("content", [(ROOT / "demo/media/sample.mp4").read_bytes(), b"hello world", b'{"a": 1}'])
def test_file_of_another_kind_is_refused_in_our_own_words(network: Network, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"clip.mp4 is no checkpoint: files of torch.save .* are taken") as caught:
        load_checkpoint(network, file)
    assert "weights_only" not in told(caught.value)


def test_every_kind_of_wrong_entry_is_counted_and_shown(network: Network, tmp_path: Path) -> None:
    state = network.state_dict()
    del state["norm.bias"], state["blocks1.0.conv1.weight"]
    state["surprise"] = torch.zeros(3)
    state["patch_embed2.proj.bias"] = torch.zeros(5)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(network, saved(state, tmp_path))
    text = str(caught.value)
    entries = len(network.state_dict())
    assert f"does not fit {NAME} (2 missing, 1 unexpected, 1 wrong shape of {entries} entries)\n" in text
    assert "missing: norm.bias (192,)" in text
    assert "missing: blocks1.0.conv1.weight" in text
    assert "unexpected: surprise (3,)" in text
    assert "wrong shape: patch_embed2.proj.bias is (5,), the network has (64,)" in text


def test_file_of_another_network_is_told_in_a_few_lines(network: Network) -> None:
    other = create_model("uniformer_s_16x4_k400")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(other, ROOT / f"demo/weights/{NAME}.safetensors")
    first, *examples = str(caught.value).splitlines()
    wanted, offered = ({key: value.shape for key, value in model.state_dict().items()} for model in (other, network))
    missing = sorted(wanted.keys() - offered.keys())
    misshapen = sorted(key for key in wanted.keys() & offered.keys() if wanted[key] != offered[key])
    assert not offered.keys() - wanted.keys()
    assert f"({len(missing)} missing, {len(misshapen)} wrong shape of {len(wanted)} entries)" in first
    assert first.endswith(f": it would fit {NAME}")
    assert len(examples) == 12
    assert examples[5] == f"  missing: {len(missing) - 5} more"
    assert examples[11] == f"  wrong shape: {len(misshapen) - 5} more"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_other_floating_point_entries_are_converted(network: Network, tmp_path: Path, dtype: torch.dtype) -> None:
    state = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in network.state_dict().items()
    }
    load_checkpoint(network, saved(state, tmp_path))
    for key, value in network.state_dict().items():
        assert value.dtype == (torch.float32 if state[key].is_floating_point() else torch.int64), key
        assert torch.equal(value, state[key].to(value.dtype)), key


@pytest.mark.parametrize(
    ("key", "dtype", "kind", "own"),
    [
        ("head.weight", torch.int8, "integer", "floating-point ones (torch.float32)"),
        ("head.weight", torch.bool, "boolean", "floating-point ones (torch.float32)"),
        ("head.weight", torch.complex64, "complex", "floating-point ones (torch.float32)"),
    ],
    ids=str,
)
def test_another_kind_of_numbers_is_refused(
    network: Network, tmp_path: Path, key: str, dtype: torch.dtype, kind: str, own: str
) -> None:
    before = network.get_parameter("head.weight").clone()
    state = dict(network.state_dict())
    state[key] = state[key].to(dtype)
    message = f"checkpoint.pth: {key} holds {kind} values ({dtype}), and the network has {own}: save the weights as"
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_checkpoint(network, saved(state, tmp_path))
    assert torch.equal(network.get_parameter("head.weight"), before)


def test_averaged_counters_load(network: Network, tmp_path: Path) -> None:
    file = saved({key: value.float() for key, value in network.state_dict().items()}, tmp_path)
    other = create_model(NAME)
    load_checkpoint(other, file)
    assert_same_weights(network, other)


@pytest.mark.timeout(60)
def test_dictionary_within_itself_is_refused(network: Network, tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["state_dict"] = endless
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_checkpoint(network, saved(endless, tmp_path))


def test_sparse_entry_is_refused_by_name(network: Network, tmp_path: Path) -> None:
    state = dict(network.state_dict())
    state["head.weight"] = state["head.weight"].to_sparse()
    with pytest.raises(CheckpointError, match=r"head\.weight is sparse \(torch\.float32\), .* entry's \.to_dense\(\)"):
        load_checkpoint(network, saved(state, tmp_path))


@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning")
def test_quantised_entry_is_refused_by_name(network: Network, tmp_path: Path) -> None:
    state = dict(network.state_dict())
    state["head.weight"] = torch.quantize_per_tensor(state["head.weight"], 0.1, 0, torch.qint8)
    with pytest.raises(CheckpointError, match=r"head\.weight is quantised \(torch\.qint8\), .*\.dequantize\(\)"):
        load_checkpoint(network, saved(state, tmp_path))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_two_entries_of_one_name_are_refused(network: Network, tmp_path: Path, suffix: str) -> None:
    state = {**network.state_dict(), "module.head.bias": torch.zeros(11)}
    file = tmp_path / f"both.{suffix}"
    (torch.save if suffix == "pth" else save_file)(state, file)
    with pytest.raises(CheckpointError, match=r"both\.\w+ holds head\.bias twice, with and without module\. before it"):
        load_checkpoint(network, file)


def test_values_too_large_for_the_network_are_refused(network: Network, tmp_path: Path) -> None:
    state = dict(network.state_dict())
    state["norm.bias"] = torch.full((192,), 1e300, dtype=torch.float64)
    with pytest.raises(
        CheckpointError, match=r"norm\.bias has 192 of 192 values that are .* infinite in torch\.float32"
    ):
        load_checkpoint(network, saved(state, tmp_path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(network: Network, tmp_path: Path, value: float) -> None:
    state = network.state_dict()
    state["norm.bias"][7] = value
    with pytest.raises(CheckpointError, match=r"norm\.bias has 1 of 192 values that are nan or infinite"):
        load_checkpoint(create_model(NAME), saved(state, tmp_path))


def test_other_class_count_names_the_setting(tmp_path: Path) -> None:
    file = saved(create_model(NAME, num_classes=5).state_dict(), tmp_path)
    with pytest.raises(CheckpointError, match=r"5 classes .* has 11: .* 5 names \(--labels FILE\), .* num_classes=5"):
        load_checkpoint(create_model(NAME), file)
    load_checkpoint(create_model(NAME, num_classes=5), file)


def test_sibling_checkpoint_names_what_would_fit(tmp_path: Path) -> None:
    file = saved(create_model("uniformer_s_in1k").state_dict(), tmp_path)
    with pytest.raises(CheckpointError, match="it would fit uniformer_s_in1k"):
        load_checkpoint(create_model("uniformer_s_plus_in1k"), file)


@pytest.mark.parametrize("official", ["mvit_tiny_shapes", "uniformer_tiny_shapes_fpn"])
def test_checkpoint_of_another_family_names_what_would_fit(network: Network, official: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(network, ROOT / f"demo/weights/{official}.safetensors")
    first, *_ = str(caught.value).splitlines()
    assert first.endswith(f" entries): it would fit {official}")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken", b"\x80\x02broken", b"\x80\x02e."])
def test_damaged_file_is_refused(network: Network, tmp_path: Path, content: bytes) -> None:
    for name in ("weights.pth", "weights.safetensors"):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="weights"):
            load_checkpoint(network, file)


def test_weights_that_changed_on_the_way_are_refused(network: Network, tmp_path: Path) -> None:
    file = saved(network.state_dict(), tmp_path)
    content = bytearray(file.read_bytes())
    weights = network.state_dict()["head.weight"].numpy().tobytes()
    content[content.index(weights) + len(weights) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not have its checksum"):
        load_checkpoint(network, file)


def test_file_saved_without_checksums_loads(network: Network, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        file = saved(network.state_dict(), tmp_path)
    finally:
        torch.serialization.set_crc32_options(True)
    other = create_model(NAME)
    load_checkpoint(other, file)
    assert_same_weights(network, other)


def test_missing_file_is_named(network: Network, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(network, tmp_path / "nothing.pth")


def test_file_without_state_dict_is_refused(network: Network, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_checkpoint(network, saved({"epoch": 3}, tmp_path))
