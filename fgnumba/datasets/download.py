"""Download data sets from mirrors, compare checksums, and keep the files in the user's cache folder.

The addresses and SHA-256 of KMNIST, EMNIST and CIFAR-10 are those that TensorFlow Datasets records
(https://github.com/tensorflow/datasets, tensorflow_datasets/url_checksums, commit 333639b). The present address of
EMNIST is torchvision's (https://github.com/pytorch/vision, torchvision/datasets/mnist.py), which has one MD5 for both
addresses. Nothing was downloaded from them when they were written down here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fgnumba.datasets.cifar import ARCHIVE
from fgnumba.datasets.idx_folder import EMNIST_ARCHIVE, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from fgnumba.errors import DatasetError

FOUR_FILES = "the four IDX files"


@dataclass(frozen=True)
class Remote:
    """Where the files of a data set are.

    Parameters
    ----------
    mirrors : tuple of str
        The addresses of the folders that hold the files; they are tried in turn.
    checksums : mapping
        The SHA-256 of each file by its name.
    holds : str, optional
        What a folder of the user's own must hold, for messages. By default four IDX files.
    """

    mirrors: tuple[str, ...]
    checksums: Mapping[str, str]
    holds: str = FOUR_FILES


REMOTES = {
    "mnist": Remote(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        checksums={
            f"{TRAIN_IMAGES}.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            f"{TRAIN_LABELS}.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            f"{TEST_IMAGES}.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            f"{TEST_LABELS}.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion-mnist": Remote(
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        checksums={
            f"{TRAIN_IMAGES}.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            f"{TRAIN_LABELS}.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            f"{TEST_IMAGES}.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            f"{TEST_LABELS}.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
    "kmnist": Remote(
        mirrors=(
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
        checksums={
            f"{TRAIN_IMAGES}.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            f"{TRAIN_LABELS}.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            f"{TEST_IMAGES}.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            f"{TEST_LABELS}.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
    ),
    "emnist-letters": Remote(
        mirrors=(
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ),
        checksums={EMNIST_ARCHIVE: "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"},
        holds=f"{EMNIST_ARCHIVE} or its four files emnist-letters-…",
    ),
    "cifar-10": Remote(
        mirrors=("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        checksums={ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        holds=f"{ARCHIVE} or its six .bin files",
    ),
}


def fetch(name: str) -> Path:
    """Return the folder that holds the files of a data set, after downloading those that are missing.

    Parameters
    ----------
    name : str
        A key of `REMOTES`.

    Returns
    -------
    pathlib.Path
        A folder in the user's cache.

    Raises
    ------
    DatasetError
        If every mirror failed for a file, or the user has no home folder to download to.
    """
    # platformdirs is imported here, and pooch below, because most runs never download.
    import platformdirs

    try:
        cache = platformdirs.user_cache_path("fgnumba", appauthor=False)
    except RuntimeError:
        cache = Path("~")
    # Older versions of platformdirs leave "~" in the path, which would name a folder in the working folder.
    if cache.parts[0] == "~":
        raise DatasetError(
            f"{name}: there is no home folder to download to; set XDG_CACHE_HOME, or give the folder that holds "
            f"{REMOTES[name].holds} as data_dir (--data-dir)"
        )
    folder = cache / name
    remote = REMOTES[name]
    for file, checksum in remote.checksums.items():
        _fetch_file(name, file, checksum, remote.mirrors, folder)
    return folder


def _fetch_file(name: str, file: str, checksum: str, mirrors: tuple[str, ...], folder: Path) -> None:
    failures = []
    for mirror in mirrors:
        failure = _try_mirror(mirror, file, checksum, folder)
        if failure is None:
            return
        failures.append(f"{urlsplit(mirror).hostname}: {failure}")
    raise DatasetError(
        f"{name}: {file} could not be downloaded ({'; '.join(failures)}); "
        f"give the folder that holds {REMOTES[name].holds} as data_dir (--data-dir)"
    )


def _try_mirror(mirror: str, file: str, checksum: str, folder: Path) -> str | None:
    """Download the file into the folder, unless it is there, and return None; on failure, return the reason."""
    import pooch

    try:
        pooch.retrieve(
            mirror + file,
            known_hash=f"sha256:{checksum}",
            fname=file,
            path=folder,
            downloader=pooch.HTTPDownloader(timeout=30),
        )
    # OSError covers every failure of the network and of the disk. The message of requests is a paragraph: it is cut.
    except OSError as error:
        response = getattr(error, "response", None)
        status = f"HTTP status {response.status_code}" if response is not None else None
        return error.strerror or status or type(error).__name__
    except ValueError:
        return "the file's checksum is not the published one"
    return None
