"""Load a model that was trained before: from a run folder, or from a file that ``model.save`` wrote."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from fgnumba.errors import RunError
from fgnumba.objects.code import trusting
from fgnumba.validation.paths import AnyPath, path_of

if TYPE_CHECKING:
    from fgnumba.kernels.devices.device import Device
    from fgnumba.model.graph import Graph


def load(path: AnyPath, device: "str | Device" = "auto", trust_code: str | Collection[str] = ()) -> "Graph":
    """Return a model with its trained parameters.

    Parameters
    ----------
    path : str or path
        The folder of a run of ``fgtrain train`` that has ended, or a file that :meth:`fgnumba.Graph.save` wrote.
    device : str or Device, optional
        Where the model shall run, as for :class:`fgnumba.Graph`. By default ``auto``. Named ``cpu`` or ``auto``, the
        CPU multiplies in the precision of a run that trained there, or in float32 if this processor does not have it.
    trust_code : str or collection of str, optional
        Names ``package.module:name`` of code that the file may name: activations and layers that are not fgnumba's own.
        They are imported, which runs their code. By default none may be.

    Returns
    -------
    Graph
        The model: a :class:`fgnumba.Sequential` if it is a row of layers.

    Raises
    ------
    RunError
        There is no such folder or file, the run has not ended, or what is there is damaged or no model.
    CodeError
        It names code that is not trusted, or that cannot be imported.
    DeviceError
        The device is unknown or not there.

    Examples
    --------
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Dense(3)], input_shape=5)
    >>> model.save("three.safetensors")  # doctest: +SKIP
    >>> fg.load("three.safetensors")  # doctest: +SKIP
    Sequential([Dense(units=3, activation='identity', bias=True)], input_shape=(5,), device='cpu')
    """
    from fgnumba.model.saved_model import read_model
    from fgnumba.runs import saved_run

    place = path_of(path, "path")
    with trusting(trust_code):
        if place.is_dir():
            run = saved_run.read(place, device)
            run.model.classes = run.labels
            return run.model
        if not place.exists():
            raise RunError(
                f"{place}: no such file or folder; a run folder, or a file of model.save, is required"
            )
        return read_model(place, device)
