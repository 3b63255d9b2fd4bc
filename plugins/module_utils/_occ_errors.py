# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which occ cannot be reached or does not do what it was asked to. Each text is one sentence."""

from __future__ import annotations


class OccError(Exception):
    """occ could not be run, or did not do what it was asked to. The text is one sentence for the user."""


# On the way to occ


class BadReach(OccError):
    """The options name two ways to occ, or one that cannot work."""


class OccNotFound(OccError):
    """There is no occ at the given path."""


class PhpNotFound(OccError):
    """There is no such php."""


class EngineUnavailable(OccError):
    """The program that leads to occ (a container engine, kubectl, the command) is missing or does not answer."""


class ClusterUnavailable(EngineUnavailable):
    """kubectl gets no answer from the cluster, or does not know which one."""


class HostUnreachable(EngineUnavailable):
    """ssh did not get to the other host."""


class ContainerNotFound(OccError):
    """The engine knows no such container, or the pod has none of this name."""


class PodNotFound(ContainerNotFound):
    """The cluster has no such pod, deployment or namespace."""


class ContainerNotRunning(OccError):
    """The container or pod is there but stopped, paused or restarting."""


class PermissionRefused(OccError):
    """The user of the task may not do this."""


class UserUnknown(OccError):
    """The user that occ should run as does not exist."""


class TimedOut(OccError):
    """occ did not end in time."""


class NotAlone(OccError):
    """Something else on this host changed the same Nextcloud for too long."""


# What occ answers


class WrongUser(OccError):
    """occ ran, or would have run, as a user who does not own config.php."""


class WrongPhp(OccError):
    """The PHP that runs occ is too old or too new for this Nextcloud, or lacks an extension that it needs."""


class DatabaseAway(OccError):
    """Nextcloud does not get into its database."""


class NotInstalled(OccError):
    """This Nextcloud was never set up."""


class Maintenance(OccError):
    """Maintenance mode is on, so that no app is loaded."""


class UpgradeNeeded(OccError):
    """Nextcloud or an app waits for its upgrade, so that no app is loaded."""


class TalkUnavailable(OccError):
    """occ has no such command of Talk, and it could not be found out why."""


class TalkMissing(TalkUnavailable):
    """Talk is not installed."""


class TalkDisabled(TalkUnavailable):
    """Talk is installed but switched off."""


class TalkTooOld(TalkUnavailable):
    """Talk is enabled and does not have the command."""


class PhpFatal(OccError):
    """PHP stopped with an error."""


class NotJson(OccError):
    """The answer should have been JSON and is not."""


class NotConfirmed(OccError):
    """occ ended with success, but did not say what it says when it has done it."""


class StdinRefused(OccError):
    """What was given by standard input did not arrive at occ."""


class CommandFailed(OccError):
    """occ refused the command for a reason that is not one of the others."""
