"""The weights that training starts from, where a file of them is given."""

from rayapp.models.pretrained import Weights, read_weights
from rayapp.storage.uris import read_uri
from rayapp.train.settings import TrainSettings


def backbone_weights(settings: TrainSettings) -> Weights | None:
    """The backbone's weights of the file that the settings name; None where they name none.

    Raises:
        UserError: no such file, or one of another kind.
    """
    uri = settings.backbone_weights
    return None if uri is None else read_weights(read_uri(uri), uri)
