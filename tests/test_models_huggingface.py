"""Image classifiers of Hugging Face, made here: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from notbugs.__main__ import main
from notbugs.errors import InputError
from notbugs.files import write_tensors
from notbugs.models import digest, huggingface, load_classifier
from notbugs.seeds import seeded
from tests.conftest import random_images
from tests.vision import torchvision

pytestmark = pytest.mark.whole

SHAPE = (3, 8, 8)
NAMES = ["tench, Tinca tinca", "goldfish", "tabby, tabby cat", "Egyptian cat"]
PREPROCESSOR = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "size": {"height": 8, "width": 8}}
PREPROCESSOR |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


@pytest.fixture
def folder(tmp_path) -> Path:
    torchvision()  # transformers wants it where it is installed
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    config.id2label = dict(enumerate(NAMES))
    config.label2id = {name: number for number, name in enumerate(NAMES)}
    with seeded(0):
        transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return tmp_path / "vit"


def expected(folder: Path, images: torch.Tensor) -> torch.Tensor:
    """As transformers says it."""
    network = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    mean, std = (torch.tensor(PREPROCESSOR[name]).view(-1, 1, 1) for name in ("image_mean", "image_std"))
    with torch.no_grad():
        return network(((images * 255).div(255) - mean) / std).logits


def test_a_folder_of_save_pretrained(folder, monkeypatch):
    images = random_images(3, SHAPE)
    loaded = load_classifier(folder, precision="fp32")
    torch.testing.assert_close(loaded(images), expected(folder, images))
    assert (loaded.features(images).shape, loaded.head_name) == ((3, 8), "classifier")
    some = load_classifier(folder, classes=("egyptian_cat", "tench"), shape=SHAPE, precision="fp32")
    torch.testing.assert_close(some(images), expected(folder, images)[:, [3, 0]])
    with pytest.raises(InputError, match="class 'ship' of the data must be one of the 4 outputs.*--outputs"):
        load_classifier(folder, classes=("ship", "tench"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(folder))
    assert torch.equal(load_classifier("hf:owner/vit", precision="fp32")(images), loaded(images))
    assert digest("hf:owner/vit") == digest(folder)
    monkeypatch.chdir(folder.parent)
    assert torch.equal(load_classifier("hf:vit", precision="fp32")(images), loaded(images))  # a folder: no owner
    with pytest.raises(InputError, match="must be hf:OWNER/NAME.* or a folder.* Did you mean 'vit'"):
        load_classifier("hf:vitt")


@pytest.mark.parametrize(
    "said",
    [
        *("[1]", "{", '{"rescale_factor": [1]}', '{"size": {"height": null, "width": 8}}'),
        *('{"rescale_factor": 0, "image_mean": 0, "image_std": 1}', '{"image_mean": ["x"], "image_std": [1]}'),
    ],
)
def test_a_damaged_preprocessor_is_refused(folder, said):
    (folder / "preprocessor_config.json").write_text(said)
    with pytest.raises(InputError, match=r"preprocessor_config.json.* is damaged"):
        load_classifier(folder, shape=SHAPE, classes=NAMES)


def test_other_weights_and_other_preprocessors(folder):
    images, wanted = random_images(3, SHAPE), expected(folder, random_images(3, SHAPE))
    state = load_classifier(folder).network.state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    torch.testing.assert_close(load_classifier(folder, precision="fp32")(images), wanted)
    by_bytes = {name: [255 * value for value in PREPROCESSOR[name]] for name in ("image_mean", "image_std")}
    for other in ({"do_rescale": False} | by_bytes, {"rescale_factor": 2 / 255} | {
        "image_mean": [2 * value for value in PREPROCESSOR["image_mean"]],
        "image_std": [2 * value for value in PREPROCESSOR["image_std"]],
    }):  # fmt: skip
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | other))
        torch.testing.assert_close(load_classifier(folder, precision="fp32")(images), wanted)
    halves = {name: value for name, value in PREPROCESSOR.items() if name != "image_std"}
    (folder / "preprocessor_config.json").write_text(json.dumps(halves))
    with pytest.raises(InputError, match="normalises, and does not say its image_std.*Give --mean and --std"):
        load_classifier(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"'mean' must be given.*no preprocessor_config\.json"):
        load_classifier(folder)
    told = load_classifier(folder, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), precision="fp32")
    torch.testing.assert_close(told(images), wanted)


@pytest.mark.parametrize(
    ("processor", "options"),
    [
        ("EfficientNet", {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.479, 0.473, 0.474]}),
        ("EfficientNet", {"rescale_offset": True, "rescale_factor": 1 / 127.5}),
        ("EfficientNet", {"do_normalize": False}),
        ("MobileViT", {}),
        ("MobileViT", {"do_flip_channel_order": False}),
    ],
)
def test_images_are_as_the_preprocessor_of_transformers_makes_them(folder, processor, options):
    """That of EfficientNet divides by the deviation twice; that of MobileViT turns the channels, and no more."""
    made = getattr(transformers, f"{processor}ImageProcessor")(do_resize=False, do_center_crop=False, **options)
    made.save_pretrained(folder)
    pixels = (random_images(2, SHAPE) * 255).to(torch.uint8)
    wanted = torch.stack([made(image, return_tensors="pt")["pixel_values"][0] for image in pixels])
    seen = []
    classifier = load_classifier(folder, precision="fp32")
    classifier.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    classifier(pixels / 255)
    torch.testing.assert_close(seen[0], wanted)


def test_a_model_of_timm_has_its_preprocessing_in_its_configuration(tmp_path, caplog):
    torchvision()
    timm = pytest.importorskip("timm")
    with seeded(0):
        network = timm.create_model("test_vit", num_classes=4).eval()
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    said = network.pretrained_cfg | {"mean": mean, "std": std, "num_classes": 4, "input_size": [3, 160, 160]}
    config = {"architecture": "test_vit", "num_classes": 4, "label_names": NAMES, "pretrained_cfg": said}
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_tensors(tmp_path / "model.safetensors", network.state_dict())
    images = random_images(1, (3, 160, 160))
    classifier = load_classifier(tmp_path, classes=NAMES, shape=(3, 160, 160), precision="fp32")
    wanted = network((images - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1))
    torch.testing.assert_close(classifier(images), wanted)
    with caplog.at_level("INFO"):
        load_classifier(tmp_path, shape=SHAPE, classes=NAMES)
    assert "was trained on images of 160x160 pixels; these are 8x8" in caplog.text
    said["std"] = [[], 1, 1]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json of .* is damaged"):
        load_classifier(tmp_path)


def test_what_is_refused(folder, monkeypatch):
    with pytest.raises(InputError, match="says itself what 'architecture' is"):
        load_classifier(folder, architecture="cnn")
    config = json.loads((folder / "config.json").read_text())
    own = config | {"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine"}}
    (folder / "config.json").write_text(json.dumps(own))
    (folder / "code.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(InputError, match="transformers cannot make an image classifier"):
        load_classifier(folder)

    def offline(name, **_):
        raise OSError("no connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(InputError, match="The model 'owner/vit' cannot be had from the Hub: no connection"):
        load_classifier("hf:owner/vit")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'notbugs\[hf\]'"):
        huggingface._network(folder)


def test_from_the_command_line(folder, tmp_path, monkeypatch, capsys):
    draw = np.random.default_rng(0)
    for name in ("tabby", "goldfish"):
        (tmp_path / "pets" / name).mkdir(parents=True)
    from PIL import Image

    for number in range(20):
        picture = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture.save(tmp_path / "pets" / ("tabby", "goldfish")[number % 2] / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    assert (
        main(["evaluate", "vit", "--data", "pets", "--radii", "0.5", "--attack.steps", "2", "--attack.queries", "0"])
        == 0
    )
    captured = capsys.readouterr()
    assert "l2 0.5:" in captured.out
    assert "goldfish is 1 (goldfish), tabby is 2 (tabby, tabby cat)" in captured.err
