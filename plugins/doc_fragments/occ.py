# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say how occ of a Nextcloud is reached, and what all modules built on it have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation shared by the modules that run occ."""

    DOCUMENTATION = r"""
options:
  occ:
    description:
      - Absolute path of the C(occ) file, on the host or, with O(container), inside the container.
      - The default is V(/var/www/nextcloud/occ) on the host and V(/var/www/html/occ) inside a container.
    type: str
  php:
    description: Name or path of PHP, in the same place as C(occ).
    type: str
    default: php
  user:
    description:
      - Name or number of the user who runs C(occ).
      - The default is the owner of C(config/config.php) beside C(occ), the only user whom Nextcloud accepts.
      - On the host the task must run as root or as that user. In a container it must be allowed to use the engine.
    type: str
  container:
    description: Name of the running container that holds this Nextcloud. Without it C(occ) is on the host itself.
    type: str
  container_engine:
    description: Name or path of the program that runs the container, for example V(docker) or V(podman).
    type: str
    default: docker
attributes:
  action_group:
    support: full
    description: Use C(group/nextcloud_talk.hpb.occ) in C(module_defaults) to say once how C(occ) is reached.
    membership:
      - nextcloud_talk.hpb.occ
requirements:
  - Nextcloud with Talk 15 or newer
notes:
  - The state is read from Nextcloud's app configuration with one start of PHP, and read again after every change,
    because C(occ) may store nothing and still end with success.
  - C(occ) takes no lock, so that of several writers all but one would lose what they wrote. A module that has to change
    something first gets a lock on its host, then a lease in Nextcloud, the value C(lease) of the app configuration
    C(nextcloud_talk_hpb), and reads and plans again. So several runs, on several hosts and of several controllers, may
    register at the same time. The lease costs a second, is deleted at the end, and is taken over after 60 seconds when
    its holder was killed. Somebody who changes Talk's settings in the browser meanwhile is not kept out.
"""
