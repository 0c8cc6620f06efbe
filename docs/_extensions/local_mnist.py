"""Let a page's cells load MNIST from the folder that ``FGNUMBA_DOCS_MNIST`` names.

A page that needs MNIST imports this module in a cell tagged ``remove-cell``. Its other cells then say
``fg.datasets.load("mnist")``, as a reader does, and nothing is downloaded while the site is built.
"""

import os
from functools import partial

import fgnumba.datasets

fgnumba.datasets.load = partial(fgnumba.datasets.load, data_dir=os.environ["FGNUMBA_DOCS_MNIST"])  # type: ignore[assignment]
