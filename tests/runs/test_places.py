"""Paths in a configuration file: found from the working folder or beside the file, or refused with both places."""

import numpy as np
import pytest

from fgnumba.errors import ConfigError
from fgnumba.runs.configuration import RunConfig, configured, read_settings


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """Return a folder with a configuration file, below the working folder."""
    folder = tmp_path / "conf"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


def write(folder, text):
    (folder / "c.toml").write_text(text)
    return folder / "c.toml"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("data", "d.npz"),
        ("data", "sub/d.npz"),
        ("data", "folder"),
        ("data_dir", "mnist"),
        ("model", "net.toml"),
    ],
)
def test_a_path_is_found_beside_the_file(conf, tmp_path, key, name):
    file = write(conf, f"{key} = '{name}'")
    (conf / "sub").mkdir()
    (conf / name).touch()
    assert getattr(configured(file, {}), key) == str(conf / name)
    assert read_settings(file) == {key: str(conf / name)}
    # What the working folder has comes first.
    (tmp_path / "sub").mkdir()
    (tmp_path / name).touch()
    assert getattr(configured(file, {}), key) == name


def test_the_folder_may_be_given_from_the_working_folder(conf, monkeypatch):
    (conf / "d.npz").touch()
    write(conf, "data = 'd.npz'")
    assert configured(conf.relative_to(conf.parent) / "c.toml", {}).data == "conf/d.npz"
    monkeypatch.chdir(conf)
    assert configured(conf.relative_to(conf) / "c.toml", {}).data == "d.npz"


def test_a_prefix_of_names_beside_the_file(conf):
    (conf / "emnist-letters-train-images-idx3-ubyte").touch()
    assert configured(write(conf, "data = 'emnist-letters'"), {}).data == "emnist-letters"
    (conf / "emnist-digits-train-images-idx3-ubyte").touch()
    assert configured(write(conf, "data = './emnist-digits'"), {}).data.endswith("emnist-digits")


@pytest.mark.parametrize(("key", "name"), [("data", "mnist"), ("data", "digits"), ("model", "mlp")])
def test_names_are_no_paths(conf, key, name):
    (conf / name).mkdir()
    assert getattr(configured(write(conf, f"{key} = '{name}'"), {}), key) == name


@pytest.mark.parametrize(
    ("key", "name"), [("data", "d.npz"), ("data", "sub/d"), ("data_dir", "mnist"), ("model", "net.toml")]
)
def test_a_path_that_leads_nowhere_is_named_with_both_places(conf, tmp_path, key, name):
    file = write(conf, f"{key} = '{name}'")
    with pytest.raises(ConfigError) as caught:
        configured(file, {})
    message = str(caught.value)
    assert message.startswith(f"{file}: {key} is '{name}'; there is nothing of this name")
    assert f"the working folder, {tmp_path}, nor beside the file, in {conf}" in message
    # Reading alone refuses nothing: the data of a run may be gone, and an option overrides the file.
    assert getattr(RunConfig.from_toml(file), key) == name
    assert getattr(configured(file, {key: "other"}), key) == "other"


def test_the_file_of_a_model_whose_layers_are_given_may_be_gone(conf):
    file = write(conf, "model = 'net.toml'\n[[layers]]\ntype = 'dense'\nunits = 3")
    assert configured(file, {}).model == "net.toml"


def test_a_configuration_beside_its_data_is_used_from_above(conf, tmp_path):
    from fgnumba.datasets import load

    x, y = np.zeros((6, 5), np.float32), np.arange(6) % 3
    np.savez(conf / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    settings = configured(write(conf, "data = 'd.npz'"), {"steps": 3})
    assert (load(settings.data).classes, settings.steps) == (3, 3)
