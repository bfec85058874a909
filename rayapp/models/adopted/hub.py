"""A detector on the Hugging Face hub: the few files of it that are read, in the hub's own cache."""

from rayapp.config.errors import UserError
from rayapp.models.adopted.hub_uris import HUB
from rayapp.models.pretrained import hub_answers

_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model*.safetensors",
    "model.safetensors.*",
)


def fetched(uri: str) -> str:
    """The local folder of `hf://OWNER/NAME[@REVISION]`, fetched once into the hub's cache.

    A token, where one is needed, is the hub client's own business.

    Raises:
        UserError: no such name, no access, or no connection and nothing in the cache.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = uri.removeprefix(HUB).rstrip("/").partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"{uri}: give {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION")
    online = hub_answers()
    try:
        return str(
            huggingface_hub.snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=list(_FILES),
                local_files_only=not online,
            )
        )
    except HFValidationError:
        raise UserError(f"{uri}: no name of the hub") from None
    except LocalEntryNotFoundError:
        why = "can't be fetched" if online else "the hub does not answer"
        raise UserError(
            f"{uri}: {why}, and it is not in the hub's cache; connect, or give a local folder"
        ) from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no answer")
        advice = (
            "log in with `hf auth login` and accept its terms there"
            if status in (401, 403)
            else "check the name and the revision"
        )
        raise UserError(f"{uri}: not to be had from the hub ({status}): {advice}") from None
