from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from rayapp import load_detector
from rayapp.config.errors import UserError
from tests.doubles.server import Reply, Request, Server, serve_range
from tests.hub_folders import noise_images, save_folder

pytest.importorskip("transformers")
COMMIT = "c" * 40


class Repository:
    """One model on the hub; what was asked of it is kept."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request.path)
        if request.path.startswith("/api/models/me/mine/revision/"):
            siblings = [{"rfilename": name} for name in self.files]
            return Reply.json({"id": "me/mine", "sha": COMMIT, "siblings": siblings})
        if request.path.startswith("/api/models/me/mine/tree/"):
            files = self.files.items()
            return Reply.json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": name}
                    for name, data in files
                ]
            )
        if request.path.startswith("/api/models/"):
            return Reply(404, {"X-Error-Code": "RepoNotFound"})
        name = request.path.rpartition("/")[2]
        if name not in self.files:
            return Reply(404, {"X-Error-Code": "EntryNotFound"})
        reply = serve_range(self.files[name], request, etag=f'"{name}"')
        reply.headers["X-Repo-Commit"] = COMMIT
        return reply


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    folder = save_folder(tmp_path / "folder", "vit")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "evil.py").write_text("raise SystemExit")
    repository = Repository(folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with Server(repository) as server:
        url = f"http://127.0.0.1:{server.port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield repository


def test_a_name_on_the_hub_is_the_folder_of_its_few_files(hub, tmp_path, monkeypatch) -> None:
    local = load_detector(tmp_path / "folder")
    found = load_detector("hf://me/mine@v1")
    assert found.hash() == local.hash()
    assert (found.logits(noise_images()) == local.logits(noise_images())).all()
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert fetched == {"config.json", "model.safetensors", "preprocessor_config.json"}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    count = len(hub.asked)
    assert load_detector("hf://me/mine@v1").hash() == local.hash()  # of the cache
    assert len(hub.asked) == count


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("hf://me", "give hf://OWNER/NAME"),
        ("hf://me/mine/more", "give hf://OWNER/NAME"),
        ("hf://me/../x", "give hf://OWNER/NAME"),
        ("hf://me/no..thing", "no name of the hub"),
        ("hf://me/other", "not to be had from the hub"),
    ],
)
def test_what_is_not_to_be_had_is_said_in_one_line(hub, uri: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        load_detector(uri)
    assert "\n" not in str(refusal.value)


def test_without_a_connection_and_a_cache_it_is_said(hub, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match="the hub does not answer, and it is not in the hub's cache"
    ):
        load_detector("hf://me/mine")
