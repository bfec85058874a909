import io

import pytest
from PIL import Image

from rayapp.dataset import manifest
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.perturb.file_names import targets
from rayapp.perturb.manifest_rows import expand, manifest_schema, row_schema
from rayapp.perturb.preview import _format, write_preview
from rayapp.perturb.variants import PerturbRows
from rayapp.storage.uris import open_store
from rayapp.transforms import load_perturbation
from tests.perturb.sets import make_set


@pytest.mark.parametrize(("most", "rows"), [(1, 1), (3, 3), (9, 5)])
def test_a_row_for_each_image_and_a_column_for_each_variant(tmp_path, most, rows):
    scheme, perturbation = load_scheme("demo"), load_perturbation("blur-grid")
    listed = read_list(make_set(tmp_path / "in", 5), scheme)
    root, output = open_store(tmp_path / "in"), open_store(tmp_path / "out")
    work = PerturbRows(root, output, perturbation, 1)
    work.setup()
    (named,) = targets([listed], "clean")
    done = work.batch([{"id": t.item.id, "path": t.source_path, "name": t.name} for t in named])
    done = manifest.from_rows(done, row_schema(scheme))
    whole = expand(done, manifest_schema(scheme), perturbation.variant_names)
    uri = write_preview(root, output, whole, most)
    sheet = Image.open(io.BytesIO(output.get("preview.png")))
    assert uri == str(tmp_path / "out" / "preview.png")
    assert sheet.size == (8 + 6 * 200, 8 + rows * 232)


def test_captions_say_what_was_done():
    plan = (
        '[{"op":"crop","top":0,"left":0,"height":300,"width":300},'
        '{"op":"resize","height":256,"width":256,"filter":"lanczos4"},'
        '{"op":"jpeg","quality":80,"channels":"bgr"}]'
    )
    assert _format(plan) == "crop 300x300, resize 256x256, jpeg 80"
    assert _format("[]") == "as it is"
