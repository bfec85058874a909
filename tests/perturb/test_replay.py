import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme, parse_list
from rayapp.perturb.file_names import targets
from rayapp.perturb.replay import check_published, replay
from rayapp.transforms import published_draws

SCHEME = load_scheme("imaginet")
GENERATORS = ("0,0", "1,3", "2,6", "3,7")


def lists(lengths=(330, 40, 21, 5)):
    return [
        parse_list(
            "".join(f"{code}/{i}.png,1,0,{GENERATORS[code]}\n" for i in range(length)),
            SCHEME,
            f"{code}.txt",
        )
        for code, length in enumerate(lengths)
    ]


def test_every_item_gets_the_published_draw_of_its_place():
    given = lists()
    check_published(given)
    planned = targets(given, "published")
    sizes = {t.source_path: (300 + i, 900 - i) for named in planned for i, t in enumerate(named)}
    draws = published_draws([[sizes[t.source_path] for t in named] for named in planned])
    found = replay(planned, sizes)
    for named, drawn in zip(planned, draws, strict=True):
        for target, draw in zip(named, drawn, strict=True):
            assert found[target.item.id].plan == draw.plan(sizes[target.source_path]).to_json()


def test_an_unreadable_image_loses_the_rest_of_its_stream_only():
    planned = targets(lists(), "published")
    sizes = {t.source_path: (700, 900) for named in planned for t in named}
    whole = replay(planned, sizes)
    broken = replay(planned, sizes | {"0/25.png": None})
    lost = {identity for identity, one in broken.items() if one.plan is None}
    # batches of 20 go to 8 workers in turn: item 25 is in batch 1, its worker goes on with batch 9
    assert lost == {f"0/{i}.png" for i in [*range(25, 40), *range(180, 200)]}
    assert all("0/25.png" in (broken[identity].fault or "") for identity in lost)
    assert all(broken[identity] == whole[identity] for identity in whole.keys() - lost)


def test_another_order_of_the_lists_is_refused():
    with pytest.raises(UserError, match=r"1\.txt: list 1 of draws published .* SD; the order"):
        check_published(lists()[::-1][2:])
