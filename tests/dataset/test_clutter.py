import pytest

from rayapp.dataset.clutter import clutter_kind


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (".DS_Store", ".DS_Store"),
        ("a/b/Thumbs.db", "Thumbs.db"),
        ("Desktop.ini", "Desktop.ini"),
        ("a/._x.jpg", "._*"),
        ("__MACOSX/a/x.jpg", "__MACOSX/"),
        ("photos/@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg", "@eaDir/"),
        ("x.jpg~", "*~"),
        ("00000/000000017.txt", ".txt"),
        ("00000/000000017.JSON", ".json"),
        ("IMG_1.xmp", ".xmp"),
        ("README", "README"),
        (".gitkeep", ".gitkeep"),
        ("Icon\r", "Icon"),
    ],
)
def test_what_systems_and_tools_leave_is_no_image(key: str, kind: str):
    assert clutter_kind(key) == kind


@pytest.mark.parametrize(
    "key",
    [
        "x.jpg",
        "x.JPG",
        ".hidden.png",
        "a.txt.png",
        "5f3c9e",
        "clip.mp4",
        "x.heic",
        "x.svg",
        "readme.png",
        "a.txt/x",
        "macosx/x.jpg",
        "x.jpg.part",
        "wallpaper~2.jpg",
    ],
)
def test_what_may_be_an_image_is_tried(key: str):
    assert clutter_kind(key) is None
