# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup `vaulted`: texts encrypted with the vault password of this run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vaulted
short_description: Encrypt texts with the vault password of this run
version_added: 0.1.0
author:
  - nextcloud_talk.hpb contributors (@nextcloud-talk-hpb)
description:
  - Encrypts as C(ansible-vault encrypt) does, with the password that C(--ask-vault-pass), C(--vault-password-file) or
    C(--vault-id) has given this run. The password stands in no variable and no process's arguments.
  - With several of them it is the one that C(vault_encrypt_identity) of Ansible's configuration names, or the first.
options:
  _terms:
    description: The texts.
    type: list
    elements: str
    required: true
notes:
  - What it returns is different in every run, since it is salted.
seealso:
  - plugin: ansible.builtin.unvault
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Keep a text encrypted on the controller
  ansible.builtin.copy:
    content: "{{ lookup('nextcloud_talk.hpb.vaulted', text) }}"
    dest: text.vault
    mode: "0600"
    # The module would otherwise decrypt what it finds encrypted.
    decrypt: false
  delegate_to: localhost
  no_log: true
"""

RETURN = r"""
_raw:
  description: The content of a vault file for each text.
  type: list
  elements: str
"""

from typing import Any  # noqa: E402

from ansible import constants  # noqa: E402
from ansible.errors import AnsibleError  # noqa: E402
from ansible.parsing import vault  # noqa: E402
from ansible.plugins.lookup import LookupBase  # noqa: E402


class LookupModule(LookupBase):
    """Encrypts its terms."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        """Return each term as the text of a vault file; raises AnsibleError without a password."""
        self.set_options(var_options=variables, direct=kwargs)
        context = vault.VaultSecretsContext.current(optional=True)
        found = vault.match_encrypt_secret(
            context.secrets if context else [], encrypt_vault_id=constants.DEFAULT_VAULT_ENCRYPT_IDENTITY
        )
        if not found:
            raise AnsibleError(
                "This run has no vault password, expected the one to encrypt with: give --ask-vault-pass, "
                "--vault-password-file or --vault-id."
            )
        name, secret = found
        library = vault.VaultLib()
        return [library.encrypt(term, secret, vault_id=name).decode() for term in terms]
