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
      - Absolute path of the C(occ) file, on the host or, with O(container) or O(kubectl), inside the container.
      - The default is V(/var/www/nextcloud/occ) on the host and V(/var/www/html/occ) inside a container.
      - Not with O(snap) or O(command).
    type: str
  php:
    description:
      - Name or path of PHP, in the same place as C(occ).
      - Without effect with O(snap) and O(command).
    type: str
    default: php
  user:
    description:
      - Name or number of the user who runs C(occ), on the host or in O(container).
      - The default is the owner of C(config/config.php) beside C(occ), the only user whom Nextcloud accepts.
      - On the host the task must run as root, as that user, or as one whom C(sudo) lets become that user without a
        password. In a container it must be allowed to use the engine.
      - Not with O(snap), which wants root, nor with O(kubectl), where it is the pod's own user, nor with O(command).
    type: str
  container:
    description:
      - Name of the running container that holds this Nextcloud. Without it, O(snap), O(kubectl) and O(command) C(occ)
        is on the host itself. At most one of these four can be set.
      - The container of All-in-One is V(nextcloud-aio-nextcloud).
    type: str
  container_engine:
    description:
      - Name or path of the program that runs the container, for example V(docker) or V(podman).
      - A rootless container of Podman is known to its user only, so the task must run as that user.
    type: str
    default: docker
  snap:
    description:
      - Whether Nextcloud is the snap C(nextcloud). Then C(/snap/bin/nextcloud.occ) is run, or C(nextcloud.occ) in
        C(PATH).
      - The task must run as root.
    type: bool
    default: false
  kubectl:
    description:
      - The pod that holds this Nextcloud. C(occ) is run in it with C(kubectl exec), as the pod's own user, since
        C(kubectl) cannot choose another one.
      - When that is root, C(occ) becomes the owner of C(config/config.php) by itself, or refuses, which is reported.
        Where it refuses, use O(command) with a program that switches, as in the example of that option.
    type: dict
    suboptions:
      pod:
        description: What C(kubectl exec) takes, such as V(deploy/nextcloud) or V(pod/nextcloud-0).
        type: str
        required: true
      namespace:
        description: Namespace of the pod.
        type: str
      container:
        description: Container of the pod with Nextcloud. Without it C(kubectl) takes the first one.
        type: str
      context:
        description: Context of the kubeconfig.
        type: str
      kubeconfig:
        description: Path of the kubeconfig on the host.
        type: path
  command:
    description:
      - Words that run C(occ), for every case that the other options do not know, such as V([ssh, nas, docker, exec,
        -i, -u, www-data, nextcloud, php, occ]) or V([kubectl, exec, -i, deploy/nextcloud, --, setpriv, --reuid=33,
        --regid=33, --clear-groups, php, /var/www/html/occ]).
      - They are taken as they are, and what C(occ) is told is added to them. C(ssh) and its like (C(autossh),
        C(slogin), C(rsh), C(plink), C(dbclient)) hand everything to a shell on the other host, so behind them what is
        added is quoted for that shell, once for each of them.
      - Secrets go in by standard input. C(docker exec), C(podman exec) and C(kubectl exec) need C(-i) to pass it on,
        and C(ssh) must not have C(-n).
      - It must work without a question. With C(ansible_connection=local) it starts on the controller, which suits a
        host without Python.
    type: list
    elements: str
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
