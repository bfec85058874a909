"""Perturbations: how images are cut and disturbed, as data in `configs/perturbations`."""

import copy
import hashlib
import json
from typing import Annotated

from pydantic import Field, StringConstraints

from rayapp.config.packaged import resource
from rayapp.config.settings import Settings
from rayapp.config.yaml_files import parse_yaml
from rayapp.transforms.draws import Dice
from rayapp.transforms.operations import SizeHW
from rayapp.transforms.plans import Draft, Plan
from rayapp.transforms.rules import DoesNotFitError, Rule

_LARGE = ((3000, 4000), (4000, 3000), (2048, 2048), (1536, 2730))  # images as people have them
PLAIN = "plain"  # the one variant of a perturbation that lists none

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]  # safe in a path


class Perturbation(Settings):
    """Steps done to every image, and for a grid the variants that each go on from there."""

    name: Name = Field(description="names the draws too: perturbations of one name draw alike")
    steps: tuple[Rule, ...] = Field(description="done in this order; drawn once an image")
    variants: dict[Name, tuple[Rule, ...]] = Field(
        default_factory=dict, description="further steps by variant; none: one variant, 'plain'"
    )

    @property
    def hash(self) -> str:
        """sha256 of the content, in hex; comments, key order, written-out defaults don't count."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Every variant that `draw` may give, in the file's order."""
        return tuple(self.variants) or (PLAIN,)

    @property
    def size_HW(self) -> SizeHW | None:
        """Height and width of what it makes of a large image; None: not always the same."""
        found = set()
        for at, size_HW in enumerate(_LARGE):
            draft = Draft(size_HW)
            fits = _fits(self.steps, draft, Dice(0, self.name, str(at)))
            found.add((draft.height, draft.width) if fits else None)
        return found.pop() if len(found) == 1 else None

    def ending_in_crop(self, side: int) -> "Perturbation":
        """The same with a square of `side` px, at random, as its last step; for training."""
        last = Rule.model_validate({"crop": {"side": side}})
        return self.model_copy(update={"steps": (*self.steps, last)})

    def second(self) -> "Perturbation":
        """The same with draws of its own: for a second view of an image."""
        return self.model_copy(update={"name": f"{self.name}.second"})

    def draw(self, size_HW: SizeHW, item_id: str, seed: int, epoch: int = 0) -> dict[str, Plan]:
        """The plan of each variant for one image, each complete in itself.

        A variant's draws depend on seed, perturbation's name, variant's name, item and epoch alone:
        other variants may come and go. A variant that the image is too small for (`small: skip`) is
        absent.

        Args:
            size_HW: height and width of the decoded image in px.
            item_id: the item's id in its list.
            seed: the run's seed.
            epoch: epoch of training; 0 outside training.
        """
        draft = Draft(size_HW)
        if not _fits(self.steps, draft, Dice(seed, self.name, item_id, epoch)):
            return {}
        if not self.variants:
            return {PLAIN: Plan(draft.steps)}
        plans: dict[str, Plan] = {}
        for name, rules in self.variants.items():
            branch = copy.copy(draft)
            if _fits(rules, branch, Dice(seed, f"{self.name}/{name}", item_id, epoch)):
                plans[name] = Plan(branch.steps)
        return plans


def _fits(rules: tuple[Rule, ...], draft: Draft, dice: Dice) -> bool:
    """Draw the rules onto the draft; False where the image is too small for one of them."""
    try:
        for rule in rules:
            rule.draw(draft, dice)
    except DoesNotFitError:
        return False
    return True


def load_perturbation(name_or_path: str) -> Perturbation:
    """A shipped perturbation by name (`imaginet-test`), or a user's own YAML file by path.

    Raises:
        UserError: no such perturbation (the line lists those there are), or one with a wrong key or
            value, named with file and line.
    """
    return parse_yaml(resource("configs/perturbations", name_or_path), Perturbation)
