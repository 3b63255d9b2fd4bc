# Copyright: nextcloud_talk.hpb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks: `plays` for files whose tests run whole playbooks, `long` for what is no part of each change's tests."""

from __future__ import annotations

import pytest

# Files that run playbooks, or modules again and again, several seconds each, and those of their tests that are run for
# every change.
PLAYS = {
    "test_addresses": [
        "test_on_the_hosts_network_everything_but_media_is_on_the_loopback",
        "test_of_ipv6_only_media_has_an_address_and_only_on_the_hosts_network",
        "test_private_networks_are_the_halves_of_the_subnet",
        "test_the_smallest_subnet_has_room_for_all",
        "test_what_cannot_work_is_one_sentence",
        "test_a_subnet_counts_for_private_networks_only",
        "test_a_host_with_its_own_address_translates_nothing",
        "test_ipv6_is_served_at_one_address_beside_ipv4",
        "test_behind_nat_both_sides_are_named",
        "test_on_private_networks_coturn_reaches_janus_alone",
    ],
    "test_adopt_playbook": ["test_an_installation_becomes_an_inventory"],
    "test_backup_playbooks": ["test_out_and_onto_another_host"],
    "test_handover": ["test_pages_are_private_and_written_again_only_when_something_changes"],
    "test_proxy_role": [
        "test_all_files_are_there_and_readable_by_the_proxy",
        *(f"test_{kind}" for kind in ("nginx", "apache", "caddy", "haproxy", "traefik")),
        "test_the_run_says_what_to_do",
        "test_every_origin_of_the_certificate_has_its_tasks",
    ],
    "test_release_role": [
        "test_the_roles_take_the_newest_release_when_nothing_is_set",
        "test_the_roles_take_a_named_release_and_single_pins",
    ],
    "test_report_role": ["test_a_failed_run_leaves_its_reports"],
    "test_rotate_playbook": ["test_a_nextcloud_that_fails_keeps_its_secrets_and_a_named_one_is_handed_over"],
    "test_secrets_playbook": ["test_out_and_in_again"],
    "test_talk_modules": [
        "test_signaling_ladder",
        "test_turn_ladder",
        "test_registration_ladder",
        "test_registration_replaces_what_is_former_and_keeps_what_is_not_ours",
        "test_ways_to_turn_over_tls_stay_single_and_go_when_they_are_former",
        "test_what_occ_does_not_store_is_an_error",
        "test_every_state_is_named",
        "test_a_container_that_cannot_be_entered_is_named",
        "test_options_that_cannot_work_are_refused_without_a_start",
        "test_info_keeps_nothing_of_other_apps_and_no_secret_of_config_php",
        "test_twenty_registrations_at_a_time_make_one_and_tell_the_truth",
    ],
    "test_talk_reach": ["test_the_way_is_written_once"],
    "test_talk_role": [
        "test_a_run_without_changes_costs_two_starts_of_php_for_each_instance",
        "test_another_host_of_the_instance_acts_when_the_first_is_away",
    ],
    "test_traefik_role": [
        "test_what_cannot_work_is_one_sentence",
        "test_header_aliases_are_deleted_where_traefik_knows_how",
        "test_the_root_alone_is_served",
        "test_paths_are_served_besides",
        "test_the_resolver_and_the_port",
        "test_the_dashboard_has_hashes_that_stay_the_same",
    ],
    "test_turn_tls_roles": [
        "test_nothing_changes_for_those_who_set_nothing",
        "test_turn_over_tls",
        "test_one_name_for_all_needs_one_certificate",
        "test_turn_on_443",
        "test_a_certificate_of_ones_own",
        "test_the_staging_servers_certificates_do_not_stay",
        "test_names_are_proven_by_dns_without_a_secret_in_the_environment",
        "test_what_cannot_work_is_refused_before_anything_changes",
    ],
    "test_verify_playbook": ["test_an_error_that_talk_finds_makes_the_verification_fail"],
    "test_watch_role": ["test_what_cannot_work_is_refused"],
}


def pytest_configure(config):
    """Name the marks; scripts/test chooses by them."""
    config.addinivalue_line("markers", "plays: runs whole playbooks, with the first environment only")
    config.addinivalue_line("markers", "long: with scripts/test long only")


def pytest_collection_modifyitems(items):
    """Mark the files that run playbooks."""
    for item in items:
        if item.path.stem in PLAYS:
            item.add_marker(pytest.mark.plays)
            if item.originalname not in PLAYS[item.path.stem]:
                item.add_marker(pytest.mark.long)
