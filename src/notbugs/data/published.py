"""MNIST, Fashion-MNIST, SVHN and MedMNIST by name: downloaded once, checked, and read as their authors made them."""

from __future__ import annotations

from dataclasses import replace

from notbugs.data.cache import cache_folder
from notbugs.data.download import Published, fetch
from notbugs.data.medmnist import MD5, NAMES, RECORD
from notbugs.data.npz import npz_file
from notbugs.data.reading import Reading
from notbugs.data.rows import Found, reordered
from notbugs.data.stacks import array_pairs, stacked, svhn_splits
from notbugs.data.walk import Passed
from notbugs.progress import Progress

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
    found = npz_file(file, replace(reading, classes=()))
    names = NAMES.get(name.partition("_")[0])
    known = replace(found, classes=names) if names and len(names) == len(found.classes) else found
    return reordered(known, reading.names)
