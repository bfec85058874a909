"""Uploads of an exported folder to the Hugging Face hub, by its own client and its own token."""

from collections.abc import Mapping

from rayapp.config.errors import JobFailed, UserError


def check_login() -> None:
    """Nothing where the hub's client has a token.

    Raises:
        UserError: it has none.
    """
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise UserError("--push: not logged in to the hub: `hf auth login`, or set HF_TOKEN")


def push(name: str, files: Mapping[str, bytes]) -> str:
    """Upload the files as one commit; the address of the repository.

    Raises:
        JobFailed: the hub does not answer, or refuses.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    api = huggingface_hub.HfApi()
    added = [
        huggingface_hub.CommitOperationAdd(path_in_repo=path, path_or_fileobj=data)
        for path, data in files.items()
    ]
    try:
        api.create_repo(name, repo_type="model", exist_ok=True)
        api.create_commit(name, added, commit_message="Export of imaginet-ray")
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no answer")
        raise JobFailed(f"--push {name}: the hub refuses ({status})") from None
    except OSError as error:
        # Not its text: that of a client may hold what was sent.
        raise JobFailed(
            f"--push {name}: the hub does not answer ({type(error).__name__})"
        ) from None
    return f"{huggingface_hub.constants.ENDPOINT}/{name}"
