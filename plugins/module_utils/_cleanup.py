# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of ours goes from a Docker engine, and what stays although we brought it. Nothing here asks the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._fallback import previous_name

LABEL = "nextcloud-talk.hpb"
"""Label of our containers, whose value is the container's own name, and of our networks."""


class CleanupError(Exception):
    """What is there keeps something of ours from going; the text is a whole sentence for the user."""


@dataclass(frozen=True)
class Container:
    """A container of the engine: `image` is what it was made of, as it was named; `image_id` is what that was."""

    name: str
    label: str = ""
    image: str = ""
    image_id: str = ""
    running: bool = False
    restarts: bool = False

    @property
    def ours(self) -> bool:
        """Whether it was made by this collection: another program's container may have the same name.

        One that is kept until its successor is healthy has the label of the name that it had.
        """
        return bool(self.label) and self.name in (self.label, previous_name(self.label))


@dataclass(frozen=True)
class Step:
    """One change of the engine: `verb` is stop, keep_stopped, remove, remove_image or remove_network."""

    verb: str
    name: str

    def __str__(self) -> str:
        words = {
            "stop": f"stop the container {self.name}",
            "keep_stopped": f"have the container {self.name} not started again",
            "remove": f"remove the container {self.name}",
            "remove_image": f"remove the image {self.name}",
            "remove_network": f"remove the network {self.name}",
        }
        return words[self.verb]


@dataclass
class Plan:
    """The steps in their order, and a sentence for each image that stays."""

    steps: list[Step] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def plan_stop(containers: Iterable[Container], names: Sequence[str]) -> list[Step]:
    """Return what stops our containers of these names for good, in the order of `names`."""
    there = {one.name: one for one in containers if one.ours}
    steps = []
    for name in names:
        if name in there and there[name].restarts:
            steps.append(Step("keep_stopped", name))
        if name in there and there[name].running:
            steps.append(Step("stop", name))
    return steps


def plan_absent(
    containers: Sequence[Container], names: Sequence[str], references: Iterable[str], images: Mapping[str, str]
) -> Plan:
    """Plan for our containers of these names and for images.

    `references` are the images that go: names with tag or digest, or ids. `images` says which of them the engine has:
    {reference: id}. One that a container uses which does not go stays.
    """
    leaving = [one for name in names for one in containers if one.name == name and one.ours]
    plan = Plan()
    for one in leaving:
        if one.running:
            plan.steps.append(Step("stop", one.name))
        plan.steps.append(Step("remove", one.name))
    for reference in dict.fromkeys(references):
        if reference not in images:
            continue
        users = sorted(one.name for one in containers if one.image_id == images[reference] and one not in leaving)
        if users:
            plan.kept.append(f"The image {reference} stays, since the container {', '.join(users)} uses it.")
        else:
            plan.steps.append(Step("remove_image", reference))
    return plan


def plan_networks(networks: Mapping[str, Iterable[str]], containers: Iterable[Container]) -> list[Step]:
    """Return what removes our networks, {name: its containers}. Raises CleanupError when a foreign one is in it."""
    ours = {one.name for one in containers if one.ours}
    for name, members in sorted(networks.items()):
        foreign = sorted(set(members) - ours)
        if foreign:
            raise CleanupError(
                f"The network {name} of ours has the container {', '.join(foreign)} in it, which is not ours, expected "
                f"none: take it out with 'docker network disconnect {name} {foreign[0]}', then run this again."
            )
    return [Step("remove_network", name) for name in sorted(networks)]
