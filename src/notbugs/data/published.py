"""Published sets by name: CIFAR, MNIST, Fashion-MNIST, SVHN and MedMNIST, read as their authors made them."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch

from notbugs.data.decode import Encoded, fit_all, is_jpeg
from notbugs.data.download import Published, cache_folder, fetch
from notbugs.data.npz import npz_file
from notbugs.data.rows import Found, Reading, Rows, list_files, piece_rows, reordered
from notbugs.data.stacks import array_pairs, stacked, svhn_splits
from notbugs.data.walk import Passed
from notbugs.errors import InputError, in_one_line
from notbugs.progress import Progress, silent

BASE = "https://www.cs.toronto.edu/~kriz"
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GTSRB_CLASSES = (
    "speed limit 20",
    "speed limit 30",
    "speed limit 50",
    "speed limit 60",
    "speed limit 70",
    "speed limit 80",
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no passing",
    "no passing for lorries",
    "priority at next crossing",
    "priority road",
    "yield",
    "stop",
    "no vehicles",
    "no lorries",
    "no entry",
    "danger",
    "bend left",
    "bend right",
    "double bend",
    "uneven road",
    "slippery road",
    "road narrows",
    "road works",
    "traffic signals",
    "pedestrians",
    "children",
    "bicycles",
    "snow",
    "wild animals",
    "end of all limits",
    "turn right ahead",
    "turn left ahead",
    "ahead only",
    "straight or right",
    "straight or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no passing",
    "end of no passing for lorries",
)
"""The German Traffic Sign Recognition Benchmark's, whose annotation has numbers alone; named by us."""
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Archive:
    """What is in an archive: each record is `label_bytes` labels, of which the last counts, and the pixels."""

    title: str
    published: Published
    label_bytes: int
    names: str
    train: tuple[str, ...]
    test: tuple[str, ...]


ARCHIVES = {
    "cifar10": Archive(
        "CIFAR-10",
        Published(
            "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170052171
        ),
        label_bytes=1,
        names="cifar-10-batches-bin/batches.meta.txt",
        train=tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
        test=("cifar-10-batches-bin/test_batch.bin",),
    ),
    "cifar100": Archive(
        "CIFAR-100",
        Published(
            "cifar-100-binary.tar.gz", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168513733
        ),
        label_bytes=2,
        names="cifar-100-binary/fine_label_names.txt",
        train=("cifar-100-binary/train.bin",),
        test=("cifar-100-binary/test.bin",),
    ),
}


def cifar(name: str, reading: Reading, progress: Progress = silent, *, base: str = BASE) -> Found:
    """Find CIFAR-10 or CIFAR-100 in the cache, or download it from `base` first.

    Raises
    ------
    InputError
        If it cannot be downloaded, or what came is not the published archive.
    """
    archive = ARCHIVES[name]
    file = fetch(archive.published, base, cache_folder() / "downloads", progress)
    with _open(file, archive.names) as stream:
        classes = tuple(stream.read().decode().split())
    rows = [_rows(file, archive, members, reading.size) for members in (archive.train, archive.test)]
    return reordered(Found(archive.title, rows[0], rows[1], classes, list_files([file])), reading.names)


def recognised(listing: Found, encoded: Iterable[Encoded]) -> Found:
    """The same, named CIFAR-10 if that is what it is.

    CIFAR-10 was published without loss; a copy in JPEG has lost high frequencies, and results must say so.
    """
    if listing.classes != CIFAR10_CLASSES or listing.train.form.shape != SHAPE:
        return listing
    return replace(listing, name="CIFAR-10", variant="JPEG copy" if any(map(is_jpeg, encoded)) else "")


def _rows(file: Path, archive: Archive, members: tuple[str, ...], size: int | None) -> Rows:
    label = archive.label_bytes - 1
    labels = np.concatenate([records[:, label] for records in _records(file, archive, members, 0)])

    def read(first: int) -> Iterator[np.ndarray]:
        for records in _records(file, archive, members, first):
            yield fit_all(records[:, archive.label_bytes :].reshape(-1, *SHAPE), size)

    return Rows(torch.from_numpy(labels.astype(np.int64)), read, lambda row: f"image {row} in {file}")


def _records(file: Path, archive: Archive, members: tuple[str, ...], first: int) -> Iterator[np.ndarray]:
    """A few records at a time, from number `first` on: shape (record, byte)."""
    length = archive.label_bytes + PIXELS
    for member in members:
        with _open(file, member) as stream:
            inside = stream.seek(0, 2) // length
            stream.seek(min(first, inside) * length)
            first = max(0, first - inside)
            while data := stream.read(piece_rows(length) * length):
                yield np.frombuffer(data, np.uint8).reshape(-1, length)


@contextmanager
def _open(file: Path, member: str) -> Iterator[IO[bytes]]:
    """A file of the archive, as a stream."""
    try:
        with tarfile.open(file, "r:gz") as archive:
            stream = archive.extractfile(member)
            if stream is None:
                raise KeyError(member)
            yield stream
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, zlib.error) as error:
        raise InputError(f"{file} cannot be read ({in_one_line(error)}). Delete it to download it again.") from error


RECORD = "https://zenodo.org/records/10519652/files"
SIZES = ("", "_64", "_128", "_224")
"""In the names of the files: 28x28 pixels where nothing is said."""

_SUMS = {
    "pathmnist": "a8b06965200029087d5bd730944a56c1 55aa9c1e0525abe5a6b9d8343a507616 "
    "ac42d08fb904d92c244187169d1fd1d9 2c51a510bcdc9cf8ddb2af93af1eadec",
    "chestmnist": "02c8a6516a18b556561a56cbdd36c4a8 9de6cd0b934ebb5b7426cfba5efbae16 "
    "db107e5590b27930b62dbaf558aebee3 45bd33e6f06c3e8cdb481c74a89152aa",
    "dermamnist": "0744692d530f8e62ec473284d019b0c7 b70a2f5635c6199aeaa28c31d7202e1f "
    "2defd784463fa5243564e855ed717de1 8974907d8e169bef5f5b96bc506ae45d",
    "octmnist": "c68d92d5b585d8d81f7112f81e2d0842 e229e9440236b774d9f0dfef9d07bdaf "
    "0a97e76651ace45c5d943ee3f65b63ae abc493b6d529d5de7569faaef2773ba3",
    "pneumoniamnist": "28209eda62fecd6e6a2d98b1501bb15f 8f4eceb4ccffa70c672198ea285246c6 "
    "05b46931834c231683c68f40c47b2971 d6a3c71de1b945ea11211b03746c1fe1",
    "retinamnist": "bd4c0672f1bba3e3a89f0e4e876791e4 afda852cc34dcda56f86ad2b2457dbcc "
    "e48e916a24454daf90583d4e6efb1a18 eae7e3b6f3fcbda4ae613ebdcbe35348",
    "breastmnist": "750601b1f35ba3300ea97c75c52ff8f6 742edef2a1fd1524b2efff4bd7ba9364 "
    "363e4b3f8d712e9b5de15470a2aaadf1 b56378a6eefa9fed602bb16d192d4c8b",
    "bloodmnist": "7053d0359d879ad8a5505303e11de1dc 2b94928a2ae4916078ca51e05b6b800b "
    "adace1e0ed228fccda1f39692059dd4c b718ff6835fcbdb22ba9eacccd7b2601",
    "tissuemnist": "ebe78ee8b05294063de985d821c1c34b 123ece2eba09d0aa5d698fda57103344 "
    "61b955355d7425a89687b06cca3ce0c2 b077128c4a949f0a4eb01517f9037b9c",
    "organamnist": "68e3f8846a6bd62f0c9bf841c0d9eacc 2dcccc29b88e6da5a01161ef20cda288 "
    "eeae80d0a227a8d099027e1b3cfd3b60 50747347e05c87dd3aaf92c49f9f3170",
    "organcmnist": "b9ceb9546e10131b32923c5bbeaea2b1 3ce34a8724ea6f548e6db4744d03b6a9 "
    "773c1f009daa3fe5d9a2a201b2a7ed94 050f5e875dc056f6768abf94ec9995d1",
    "organsmnist": "9ab87b696fb54e2a387ebe992d6ed5f1 53a6d115339d874c25e309a994ff46d3 "
    "ded0c5fa01a95dc4978b956f613e9b8e b354719e553fbbb2513d5533f52a4cb1",
}
MD5 = {f"{name}{size}": md5 for name, sums in _SUMS.items() for size, md5 in zip(SIZES, sums.split(), strict=True)}
"""Of the file of each set and size, as `medmnist/info.py` of version 3.0.2 has them."""

_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left"),
    *("lung-right", "pancreas", "spleen"),
)
NAMES = {
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
        *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    ),
    "chestmnist": (
        *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax"),
        *("consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
    ),
    "dermamnist": (
        *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions"),
        *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        *("basophil", "eosinophil", "erythroblast"),
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
        *("lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
    "tissuemnist": (
        *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
        *("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments"),
        "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}


# SHA-256 and sizes as TensorFlow Datasets publishes them; torchvision's MD5 are of the same files.
MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist"
FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
SVHN = "http://ufldl.stanford.edu/housenumbers"
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
FILES = {
    "mnist": (
        Published(
            "train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422
        ),
        Published(
            "train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881
        ),
        Published(
            "t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877
        ),
        Published(
            "t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542
        ),
    ),
    "fashion-mnist": (
        Published(
            "train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880
        ),
        Published(
            "train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515
        ),
        Published(
            "t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102
        ),
        Published(
            "t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148
        ),
    ),
    "svhn": (
        Published("train_32x32.mat", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8", 182040794),
        Published("test_32x32.mat", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b", 64275384),
    ),
}
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "svhn": "SVHN"}


def digits_of(name: str, reading: Reading, progress: Progress, *, base: str | None = None) -> Found:
    """Find MNIST, Fashion-MNIST or SVHN in the cache, or download it from `base` first.

    Raises
    ------
    InputError
        If it cannot be downloaded, or what came is not what was published.
    """
    folder = cache_folder() / "downloads" / name
    base = base or {"mnist": MNIST, "fashion-mnist": FASHION, "svhn": SVHN}[name]
    files = [fetch(published, base, folder, progress) for published in FILES[name]]
    if name == "svhn":
        return svhn_splits(TITLES[name], {file.stem: file for file in files}, folder, reading)
    names = FASHION_CLASSES if name == "fashion-mnist" else None
    return stacked(TITLES[name], array_pairs(files, folder, reading, Passed()), folder, reading, names)


def medmnist(name: str, reading: Reading, progress: Progress, *, base: str = RECORD) -> Found:
    """Find one of MedMNIST's sets of flat images in the cache, or download it from `base` first.

    Its authors publish an MD5 of each file, and nothing stronger.
    """
    published = Published(f"{name}.npz", "", None, MD5[name])
    file = fetch(published, base, cache_folder() / "downloads", progress)
    listing = npz_file(file, replace(reading, classes=()))
    names = NAMES.get(name.partition("_")[0])
    known = replace(listing, classes=names) if names and len(names) == len(listing.classes) else listing
    return reordered(known, reading.names)
