"""What can go wrong, and which test shows that it does not hurt.

Each fault names tests, of any folder, by their functions; or says in a sentence why no test on one machine shows it.
"""

from __future__ import annotations

Shown = tuple[str, ...] | str

SCRIPTS: dict[str, Shown] = {
    "a script fails half-way, and its first writes stay": (
        "test_a_call_leaves_no_half_written_state",
        "test_every_key_is_read_before_the_first_write",
    ),
    "a key holds a value of another type, or a damaged one": (
        "test_a_key_of_another_type_is_left_alone",
        "test_a_registry_of_another_type_is_left_alone",
        "test_it_can_be_claimed_by_a_worker_that_cannot_read_it",
    ),
    "a full server decides at a script's first write": (
        "test_what_comes_first",
        "test_what_brings_data_in_is_refused_whole",
        "test_everything_else_goes_on",
    ),
    "a key is not declared, or in another slot": (
        "test_the_body_names_the_keys_as_the_header_does",
        "test_the_keys_of_a_partition_share_its_slot",
    ),
    "Lua loses numbers and empty lists": (
        "test_every_kind_of_value_comes_back_as_it_went",
        "test_ids_are_opaque_bytes",
        "test_a_result_is_opaque_bytes",
    ),
    "the script cache is empty": ("test_a_server_that_does_not_know_the_script_gets_it_at_once",),
    "a delivery counter of the server's own goes back": "There is none: attempt and nonce are in the message's record.",
}

WORKERS: dict[str, Shown] = {
    "a worker dies before it claims": ("test_what_a_killed_worker_held_runs_again",),
    "the reply to a claim is lost": ("test_claiming", "test_a_repeat_gives_the_same_deliveries_and_charges_nothing"),
    "a worker dies while handlers run": ("test_what_a_killed_worker_held_runs_again",),
    "a worker dies after the effect, before the outcome": ("test_each_deposit_counts_once",),
    "the reply to a completion is lost": ("test_completing",),
    "an outcome comes after the lease": (
        "test_a_thawed_workers_outcomes_change_nothing",
        "test_stale_receipts_change_nothing",
    ),
    "a heartbeat comes after the lease": (
        "test_stale_receipts_change_nothing",
        "test_a_lapsed_lease_that_nobody_took_is_still_good",
    ),
    "a handler keeps the event loop beyond its lease": (
        "test_a_handler_that_keeps_the_loop_beyond_its_lease_is_not_started_again",
        "test_an_answer_that_comes_after_the_lease_was_taken_over_starts_nothing",
    ),
    "a message takes its worker down each time": ("test_it_alone_is_charged",),
    "workers that have ended pile up": (
        "test_ten_thousand_workers_leave_nothing_behind",
        "test_old_claims_are_forgotten",
    ),
    "two workers of one name": "A worker's name is its host, process id and 32 random bits; nobody can choose it.",
    "lapsed leases behind many that are held": ("test_all_the_lapsed_among_many_held_are_taken_in_one_claim",),
    "an entry or a body is gone": (
        "test_a_key_that_is_deleted_takes_only_its_own_along",
        "test_a_lapsed_message_without_its_body_is_an_error",
    ),
    "what has ended is kept for ever": ("test_a_million_messages_leave_no_memory_behind",),
    "everything is deleted while workers wait or work": (
        "test_after_everything_was_deleted_the_next_messages_are_worked_on",
    ),
    "workers are restarted under load": (
        "test_restarts_under_load_repeat_nothing",
        "test_after_its_grace_a_worker_hands_running_messages_back_uncharged",
    ),
    "the reply to queueing is lost, and the message has ended": ("test_queueing",),
    "all knock at once when Redis returns": (
        "test_an_outage_doubles_nothing_and_ends_quietly",
        "test_while_redis_is_gone_few_knock_and_then_all_are_served",
        "test_one_worker_is_woken_per_message",
    ),
    "a message of any size": (
        "test_each_size_up_to_the_limit_comes_back_and_one_beyond_changes_nothing",
        "test_more_than_any_queue_takes_is_not_even_sent",
    ),
    "a batch of any size": (
        "test_a_batch_of_any_size_comes_back_in_order",
        "test_a_batch_beyond_the_queues_length_tells_exactly_what_was_refused",
    ),
}

_ONE_COPY = "It takes replicas and a durability level above `memory`, which is refused until it is built."
_CLUSTER = "It takes a cluster, which is refused until it is supported."
_CLOCK = "It takes a machine whose clock may be set; only the server's clock is asked, and a nonce guards each lease."

REDIS: dict[str, Shown] = {
    "it is killed; each write was on disk": ("test_a_redis_that_is_killed_again_and_again_loses_nothing",),
    "it is killed; writes reach the disk each second": (
        "test_what_a_killed_redis_had_not_written_yet_is_the_last_it_accepted",
    ),
    "the machine loses its power": ("test_a_file_that_was_cut_anywhere_holds_whole_calls",),
    "its file ends in the middle of a script": ("test_a_file_that_was_cut_anywhere_holds_whole_calls",),
    "a replica is promoted that lacks writes": _ONE_COPY,
    "a wait for replicas on another connection": _ONE_COPY,
    "leases of before a failover": ("test_a_stale_receipt_changes_nothing",),
    "entry ids that come again after a failover": ("test_an_entry_that_is_not_the_messages_own_goes_alone",),
    "an isolated primary": "It takes a network that can be split; what a replica refuses is retried.",
    "a server that forgets or evicts by its configuration": (
        "test_each_risk_is_warned_of_once_and_refused_by_strict",
        "test_strict_refuses_until_the_server_is_mended",
    ),
    "a change of role while workers wait": ("test_a_server_that_changes_its_role_wakes_its_workers_again",),
    "the bell is deleted while workers wait": ("test_a_key_that_is_deleted_takes_only_its_own_along",),
    "a connection whose other end is gone": (
        "test_a_half_open_connection_is_noticed_soon_after_the_block",
        "test_a_server_that_accepts_and_says_nothing_is_unavailable",
    ),
    "a blocking read that lasts longer than asked": ("test_a_wait_for_the_bell_that_never_ends_delays_no_message",),
    "the script cache is flushed all the time": ("test_what_redis_forgets_every_moment_is_not_noticed",),
    "a slow script": ("test_a_large_backlog_makes_no_call_slow",),
    "its memory is full": ("test_a_full_server_refuses_and_drains", "test_a_full_redis_refuses_to_queue_and_drains"),
    "it evicts a body": (
        "test_a_policy_that_evicts_any_key_is_a_risk",
        "test_a_message_without_its_body_is_an_error",
    ),
    "it loads, is read-only, cannot save": (
        "test_what_passes_is_waited_for",
        "test_what_passes_is_waited_for_and_named_in_the_end",
    ),
    "a slot moves": _CLUSTER,
    "keys in two slots": ("test_the_keys_of_a_partition_share_its_slot", "test_no_names"),
    "a slot is moving slowly": _CLUSTER,
    "the cluster is down": _CLUSTER,
    "its clock goes back": _CLOCK,
    "its clock goes forward": _CLOCK,
    "a client's clock is wrong": ("test_few_ask_for_the_time_of_day",),
    "a command is forbidden to its user": ("test_a_forbidden_command_leaves_nothing_half_written",),
    "an old copy of its data is restored": "Completed messages of that time run again with their attempt counted anew: "
    "nothing in the copy tells of what came later.",
    "a version with known faults": ("test_a_server_that_is_too_old_is_refused",),
    "its file is rewritten under load": ("test_rewriting_the_file_under_load_loses_nothing",),
}

CATALOGUE = {**SCRIPTS, **WORKERS, **REDIS}
