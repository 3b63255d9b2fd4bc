# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of ours goes from a Docker engine, and what stays although we brought it. Nothing here asks the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.nextcloud_talk.hpb.plugins.module_utils import _ours
from ansible_collections.nextcloud_talk.hpb.plugins.module_utils._ours import Container


class CleanupError(Exception):
    """What is there keeps something of ours from going; the text is a whole sentence for the user."""


@dataclass(frozen=True)
class Step:
    """One change of the engine: `verb` is stop, keep_stopped, remove, remove_image or remove_network.

    `target` is what the engine is told, so that what another one is called meanwhile does not count.
    """

    verb: str
    name: str
    target: str = ""

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


def concerned(containers: Iterable[Container], services: Sequence[str], prefix: str, base: str) -> list[Container]:
    """Return our containers of these services, whatever they are called now, in the order of `services`."""
    there = sorted(containers, key=lambda one: one.kept)
    return [one for service in services for one in there if one.is_ours(f"{prefix}{service}", str(Path(base, service)))]


def plan_stop(leaving: Iterable[Container]) -> list[Step]:
    """Return what stops these containers for good."""
    steps = []
    for one in leaving:
        if one.restarts:
            steps.append(Step("keep_stopped", one.name, one.id))
        if one.running:
            steps.append(Step("stop", one.name, one.id))
    return steps


def plan_absent(
    containers: Iterable[Container],
    leaving: Sequence[Container],
    references: Iterable[str],
    images: Mapping[str, str],
) -> Plan:
    """Plan for the containers that are `leaving` and for images.

    `references` are the images that go: names with tag or digest, or ids. `images` says which of them the engine has:
    {reference: id}. One that another of the `containers` uses stays.
    """
    plan = Plan()
    others = [one for one in containers if one not in leaving]
    for one in leaving:
        if one.running:
            plan.steps.append(Step("stop", one.name, one.id))
        plan.steps.append(Step("remove", one.name, one.id))
    for reference in dict.fromkeys(references):
        if reference not in images:
            continue
        users = sorted(one.name for one in others if one.image_id == images[reference])
        if users:
            plan.kept.append(f"The image {reference} stays, since the container {', '.join(users)} uses it.")
        else:
            plan.steps.append(Step("remove_image", reference))
    return plan


def plan_networks(networks: Mapping[str, Iterable[str]], containers: Iterable[Container]) -> list[Step]:
    """Return what removes our networks, {name: its containers}. Raises CleanupError when a foreign one is in it."""
    ours = {one.name for one in containers if one.service}
    for name, members in sorted(networks.items()):
        foreign = sorted(set(members) - ours)
        if foreign:
            raise CleanupError(_ours.network_members(name, foreign))
    return [Step("remove_network", name) for name in sorted(networks)]
