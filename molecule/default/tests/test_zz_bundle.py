# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that reaches no registry, no package mirror and no source is deployed from a bundle, and calls work there."""

from __future__ import annotations

import json
import shutil
import tarfile

import pytest
from conftest import BED, DIRECTORY, SERVICES, play, recap, started

# What leaves the test network, and what goes to the mirror of the registries in it; also from inside containers.
CUT = [
    f"OUTPUT -d {BED['registry'].partition(':')[0]} -j REJECT",
    f"OUTPUT -o eth0 ! -d {BED['subnet']} -j REJECT",
    "DOCKER-USER -o eth0 -j REJECT",
]

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def bundle(hpb):
    """A bundle that was made with the engine of the deployed host, and the output of the run that made it."""
    path = DIRECTORY / "hpb.tar"
    done = play("-e", f"bundle={path}", "-e", "replace=true", playbook="playbooks/bundle.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert not path.with_name("hpb.tar.parts").exists()
    assert hpb.check_output("find /var/tmp -name '*hpb-bundle'") == ""
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def manifest(bundle) -> dict:
    """The bundle's manifest."""
    with tarfile.open(bundle) as archive:
        return json.load(archive.extractfile("manifest.json"))


@pytest.fixture(scope="module")
def cut_off(hpb, manifest):
    """The host without containers and images, and without a way to get any."""
    hpb.check_output("docker rm -f " + " ".join(SERVICES))
    hpb.check_output("docker system prune --all --force")
    for rule in CUT:
        hpb.check_output(f"iptables -I {rule}")
    assert hpb.check_output("docker image ls -q") == ""
    yield hpb
    for rule in CUT:
        hpb.check_output(f"iptables -D {rule}")
    # The base image of Janus is there again afterwards, as before.
    play("-e", "hpb_verify=false")


def images(hpb) -> dict[str, str]:
    """Return the id of the image of each container."""
    form = "'{{.Name}} {{.Image}}'"
    lines = hpb.check_output(f"docker inspect --format {form} " + " ".join(SERVICES)).splitlines()
    return {name.lstrip("/"): image for name, image in (line.split() for line in lines)}


def test_without_the_bundle_nothing_can_be_deployed(cut_off):
    assert cut_off.run("docker pull debian:trixie-slim").rc != 0
    done = play("-e", "hpb_verify=false", playbook="playbooks/deploy.yml")
    assert done.returncode != 0
    assert cut_off.check_output("docker image ls -q") == ""


def test_a_dry_run_says_what_it_would_load(cut_off, bundle):
    done = play("-e", f"hpb_bundle={bundle}", "--check", "--diff")
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count("would copy and load") == len(SERVICES), done.stdout[-4000:]
    assert cut_off.check_output("docker image ls -q") == ""


def test_all_is_deployed_from_the_bundle_and_calls_work(cut_off, bundle, manifest):
    done = play("-e", f"hpb_bundle={bundle}")
    assert done.returncode == 0, done.stdout[-6000:]
    ids = {one["part"]: one["ids"] for one in manifest["images"]}
    assert all(image in ids[name] for name, image in images(cut_off).items())
    # Nothing was built and nothing else came.
    assert len(set(cut_off.check_output("docker image ls -q").split())) == len(SERVICES)
    assert cut_off.check_output("find /var/tmp -name '*hpb-bundle'") == ""


def test_a_second_run_copies_and_changes_nothing(cut_off, bundle):
    before = started(cut_off)
    done = play("-e", f"hpb_bundle={bundle}", "-e", "hpb_verify=false")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "load | Load it into the engine" not in done.stdout
    assert all(counts["changed"] == 0 for counts in recap(done.stdout).values()), done.stdout[-4000:]
    assert started(cut_off) == before


def test_an_image_that_was_lost_is_loaded_again_and_another_one_is_not_taken_for_it(cut_off, bundle, manifest):
    nats = next(one for one in manifest["images"] if one["part"] == "nats")
    other = next(one for one in manifest["images"] if one["part"] == "coturn")
    cut_off.check_output("docker rm -f nats")
    cut_off.check_output("docker image rm -f %s", nats["name"])
    cut_off.check_output("docker tag %s %s", other["name"], nats["name"])
    done = play("-e", f"hpb_bundle={bundle}", "-e", "hpb_verify=false")
    assert done.returncode == 0, done.stdout[-4000:]
    assert images(cut_off)["nats"] in nats["ids"]


def test_what_is_not_right_is_refused_before_anything_changes(cut_off, bundle):
    before = started(cut_off)
    done = play("-e", f"hpb_bundle={bundle}", "-e", "hpb_release=2026.07")
    assert done.returncode != 0
    assert "expected 2026.07, which hpb_release asks for: set hpb_release: " in done.stdout

    damaged = bundle.with_name("damaged.tar")
    shutil.copyfile(bundle, damaged)
    with damaged.open("r+b") as opened:
        opened.seek(damaged.stat().st_size // 2)
        opened.write(b"not what it was")
    done = play("-e", f"hpb_bundle={damaged}")
    damaged.unlink()
    assert done.returncode != 0
    assert f"The bundle {damaged} is damaged: " in done.stdout

    # For other machines: the manifest stands at the beginning, and an architecture of five letters in it.
    foreign = bundle.with_name("foreign.tar")
    shutil.copyfile(bundle, foreign)
    with foreign.open("r+b") as opened:
        place = opened.read(65536).index(b'"architecture": "')
        opened.seek(place)
        opened.write(b'"architecture": "mips0"')
    done = play("-e", f"hpb_bundle={foreign}")
    foreign.unlink()
    assert done.returncode != 0
    assert f"The bundle {foreign} is for mips0, expected one for " in done.stdout

    # Janus of another base image.
    done = play("-e", f"hpb_bundle={bundle}", "-e", "janus_base_image=debian:other")
    assert done.returncode != 0
    assert "expected what the inventory pins: make it again" in done.stdout
    assert started(cut_off) == before
