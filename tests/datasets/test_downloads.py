"""Downloads of the named data sets from a server on this machine, with small files of the same format."""

import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import platformdirs
import pytest

from fgnumba.datasets import load
from fgnumba.datasets.download import REMOTES, Remote
from fgnumba.errors import DatasetError
from tests.datasets import test_cifar, test_idx_relatives


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve a folder, and let data sets be downloaded from there to an empty cache."""
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *args, **options: tmp_path / "cache")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def handler(*arguments):
        return Quiet(*arguments, directory=str(served))

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield served, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def offer(monkeypatch, name, folder, address):
    checksums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert set(checksums) == set(REMOTES[name].checksums)
    remote = Remote((f"{address}absent/", address), checksums, REMOTES[name].holds)
    monkeypatch.setitem(REMOTES, name, remote)


def test_cifar_10(server, monkeypatch):
    served, address = server
    test_cifar.archive(served / "cifar-10-binary.tar.gz")
    offer(monkeypatch, "cifar-10", served, address)
    test_cifar.check(load("cifar-10"))
    (served / "cifar-10-binary.tar.gz").unlink()
    test_cifar.check(load("cifar-10"))


def test_emnist_letters(server, monkeypatch):
    served, address = server
    test_idx_relatives.archive(served / "gzip.zip", test_idx_relatives.files("emnist-letters"))
    offer(monkeypatch, "emnist-letters", served, address)
    test_idx_relatives.check_letters(load("emnist-letters"))


def test_kmnist(server, monkeypatch):
    served, address = server
    for name, content in test_idx_relatives.files("x", 0).items():
        path = served / f"{name.removeprefix('x-').replace('test', 't10k')}.gz"
        if "labels" in name:
            content = content[:8] + bytes(number % 10 for number in content[8:])
        path.write_bytes(test_idx_relatives.gzip.compress(content))
    offer(monkeypatch, "kmnist", served, address)
    data = load("kmnist")
    assert (data.classes, len(data.x_train), len(data.x_test)) == (10, 30, 27)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("kmnist", "the four IDX files"),
        ("emnist-letters", "gzip.zip or its four files emnist-letters-…"),
        ("cifar-10", "cifar-10-binary.tar.gz or its six .bin files"),
    ],
)
def test_what_cannot_be_downloaded_says_what_a_folder_must_hold(server, monkeypatch, name, holds):
    _, address = server
    monkeypatch.setitem(REMOTES, name, Remote((address,), REMOTES[name].checksums, REMOTES[name].holds))
    with pytest.raises(DatasetError) as caught:
        load(name)
    assert str(caught.value).endswith(
        "could not be downloaded (127.0.0.1: HTTP status 404); "
        f"give the folder that holds {holds} as data_dir (--data-dir)"
    )
