"""The kinds of fault that the tests inject, each with the test that does it.

A kind is a cause, at a place: the same signal at another moment, or another value of the same flag,
is not another kind. ``test_kinds.py`` checks that every test exists.
"""

_KILLS = "tests/faults/test_kills.py::test_kills_at_random_moments_lose_double_and_repeat_nothing"
_REAL = "tests/faults/test_kills_real.py::test_kills_of_real_runs_lose_double_and_repeat_nothing"
_DISKS = "tests/faults/test_full_disks.py::"
_AROUND = "tests/faults/test_surroundings.py::"
_CLOCKS = "tests/faults/test_clocks.py::"
_CAUSE = "tests/faults/test_true_cause.py::"
_STORE = "tests/common/study/test_store.py::"
_RUN_FILES = (
    f"{_DISKS}test_a_run_that_cannot_write_its_files_is_a_failed_cell_and_the_study_goes_on"
)
_RESULTS = f"{_DISKS}test_a_study_that_cannot_write_its_results_stops_in_one_line_and_resumes"
_VANISHED = f"{_DISKS}test_a_folder_that_vanishes_in_the_middle_of_a_run_does_not_come_back"
_IRREGULAR = (
    "tests/faults/test_hostile_studies.py::"
    "test_a_file_of_a_study_that_is_no_regular_file_is_refused_in_one_line"
)
_CORRUPTED = (
    "tests/faults/test_hostile_studies.py::test_a_corrupted_file_gives_one_line_and_no_traceback"
)
_FOREIGN = (
    "tests/faults/test_foreign_processes.py::"
    "test_a_run_continues_or_ends_with_a_clear_line_under_foreign_connections"
)
_SIGNALS = (
    "tests/faults/test_command_signals.py::"
    "test_a_signal_ends_a_command_in_one_line_that_says_how_to_go_on"
)

KINDS: dict[str, str] = {
    # Killed, stopped and interrupted processes.
    "the study's program is killed": _KILLS,
    "the program of a run is killed": _KILLS,
    "the launcher of ranks is killed": _KILLS,
    "a rank is killed": f"{_CAUSE}test_a_killed_rank_is_named_with_its_step_and_the_others_are_"
    "consequences",
    "all processes are killed at once": _KILLS,
    "a run of a real framework is killed at a random moment": _REAL,
    "a process crashes (SIGSEGV, SIGABRT)": _KILLS,
    "a process stops and continues": _KILLS,
    "a process is killed while it writes a result": _KILLS,
    "a process is killed while it saves a checkpoint": (
        "tests/common/checkpoint/test_files.py::"
        "test_every_checkpoint_is_complete_after_20_kills_during_saves"
    ),
    "a training by hand is killed again and again": (
        "tests/faults/test_kills_real.py::"
        "test_kills_of_a_training_that_saves_checkpoints_change_no_loss"
    ),
    "a rank stops for good": f"{_CAUSE}test_a_stopped_rank_is_named_by_the_watchdog_with_its_step",
    "a rank hangs in a step": (
        f"{_CAUSE}test_a_rank_that_hangs_in_a_step_is_named_with_the_line_where_it_hangs"
    ),
    "a run hangs while it compiles": (
        "tests/common/processes/test_supervise.py::test_compiling_has_its_own_limit"
    ),
    "a process does not exit after its result": (
        "tests/common/processes/test_supervise.py::"
        "test_a_process_is_killed_if_it_does_not_exit_after_its_result"
    ),
    "a process id is used again": (
        "tests/common/processes/test_launch.py::"
        "test_a_worker_is_killed_if_a_new_process_has_the_id_of_its_launcher"
    ),
    "the interpreter is a shell script, and its launcher is killed": (
        "tests/common/processes/test_launch.py::"
        "test_a_worker_behind_a_shell_script_dies_with_its_launcher"
    ),
    "a signal to a command": _SIGNALS,
    "a signal during the report": (
        "tests/faults/test_command_signals.py::test_a_signal_during_the_report_keeps_the_results"
    ),
    "a signal to a run that saves checkpoints": (
        f"{_CAUSE}test_a_signal_saves_a_last_checkpoint_and_the_same_command_goes_on"
    ),
    "a signal to a run that saves nothing": (
        f"{_CAUSE}test_a_signal_ends_a_run_that_saves_nothing_at_once"
    ),
    "a second signal": "tests/common/measure/test_stop.py::test_the_second_signal_does_not_wait",
    "a signal while a program starts": (
        "tests/faults/test_interrupts.py::test_ctrl_c_in_the_first_moments_prints_no_traceback"
    ),
    "a signal while a framework is imported": (
        "tests/faults/test_interrupts.py::test_a_signal_at_any_moment_prints_no_traceback"
    ),
    "a signal inside a callback": (
        "tests/faults/test_interrupts.py::test_a_signal_inside_a_callback_is_not_lost"
    ),
    "a signal while Python exits": (
        "tests/faults/test_interrupts.py::test_a_signal_while_python_exits_prints_nothing"
    ),
    "the reader of the output goes": (
        "tests/common/processes/test_frame.py::test_output_into_a_closed_pipe_prints_no_traceback"
    ),
    "the reader of the output goes in the middle of a study": (
        f"{_AROUND}test_a_study_survives_its_surroundings_with_its_whole_report"
    ),
    # Surroundings.
    "a home or folders for temporary files that cannot be written": (
        f"{_AROUND}test_every_command_works_in_such_surroundings"
    ),
    "a user without a home": (
        "tests/common/machine/test_private.py::test_a_user_without_a_home_is_no_error"
    ),
    "names with blanks and letters that the output cannot show": (
        f"{_AROUND}test_a_study_survives_its_surroundings_with_its_whole_report"
    ),
    "an encoding without a letter": (
        "tests/common/processes/test_streams.py::"
        "test_a_character_that_the_encoding_lacks_is_printed_as_its_escape"
    ),
    "a standard stream is closed": (
        "tests/common/processes/test_streams.py::test_a_stream_that_is_closed_or_full_does_no_harm"
    ),
    "standard output goes to a full disk": (
        "tests/common/processes/test_streams.py::"
        "test_a_full_disk_behind_standard_output_is_one_line_at_the_end"
    ),
    "a strict or a wide umask": (
        "tests/common/disk/test_writing.py::test_new_files_and_folders_follow_the_umask"
    ),
    "TensorBoard is missing": (
        f"{_AROUND}test_without_tensorboard_and_output_only_the_event_files_are_missing"
    ),
    # Broken programs and settings.
    "a rank fails at import": (
        f"{_CAUSE}test_peers_end_within_five_seconds_after_a_rank_fails_at_import"
    ),
    "a framework is installed but broken": (
        f"{_CAUSE}test_a_broken_framework_is_recorded_with_its_first_error_and_the_install_line"
    ),
    "a framework is not installed": (
        "tests/commands/test_compare.py::test_a_framework_that_is_not_installed_is_skipped"
    ),
    "too few file descriptors": f"{_CAUSE}test_too_few_file_descriptors_are_named",
    "a network interface is missing": f"{_CAUSE}test_a_missing_network_interface_is_named",
    "a port is taken": f"{_CAUSE}test_a_port_that_is_taken_is_named",
    "a loss is not finite": (
        "tests/common/measure/test_training.py::test_a_loss_that_is_not_finite_is_diverged"
    ),
    "a parameter is not finite": (
        "tests/common/measure/test_training.py::"
        "test_a_parameter_that_is_not_finite_after_the_last_step_is_diverged"
    ),
    "an evaluation is not finite": (
        "tests/common/measure/test_training.py::test_an_evaluation_that_is_not_finite_is_diverged"
    ),
    "a bad command line": (
        "tests/faults/test_bad_inputs.py::test_a_bad_command_line_is_refused_in_one_line"
    ),
    "a plan that is too long": (
        "tests/faults/test_bad_inputs.py::test_a_plan_of_a_million_runs_is_shown_within_two_seconds"
    ),
    # Disks and folders.
    "no space left for a run's files": _RUN_FILES,
    "the quota is exceeded": _RUN_FILES,
    "a file grows too large": _RUN_FILES,
    "an input/output error": _RUN_FILES,
    "a read-only disk": _RUN_FILES,
    "permission is denied": _RUN_FILES,
    "the results cannot be written": _RESULTS,
    "the study's record cannot be written": (
        f"{_DISKS}test_a_new_study_on_a_full_disk_can_be_started_again_by_the_same_command"
    ),
    "the report cannot be written": (
        f"{_DISKS}test_a_report_that_cannot_be_written_is_one_line_and_the_results_stay"
    ),
    "a checkpoint cannot be written": (
        f"{_DISKS}test_checkpoints_that_cannot_be_written_cost_no_run"
    ),
    "no checkpoint of a run could be saved": (
        "tests/faults/test_disk.py::"
        "test_a_run_that_saved_no_checkpoint_keeps_its_result_and_exits_with_1"
    ),
    "the files of ranks cannot be written": (
        f"{_DISKS}test_ranks_that_cannot_write_say_so_in_one_line"
    ),
    "the jobs of parity cannot write": (
        f"{_DISKS}test_parity_on_a_full_disk_stops_in_one_line_and_resumes"
    ),
    "a study vanishes": _VANISHED,
    "the folder of a run vanishes": _VANISHED,
    "the folder of checkpoints vanishes": (
        f"{_DISKS}test_a_checkpoint_folder_that_vanishes_costs_no_run"
    ),
    "the folder of parity vanishes": (
        f"{_DISKS}test_a_parity_folder_that_vanishes_ends_all_processes_in_one_line"
    ),
    "temporary files of killed processes": (
        f"{_DISKS}test_leftovers_of_killed_processes_are_removed_and_files_of_the_user_stay"
    ),
    "a folder has two users": (
        "tests/common/processes/test_lock.py::test_two_processes_cannot_share_a_folder"
    ),
    # Damaged and hostile files.
    "a lock is a link": (
        "tests/common/processes/test_lock.py::"
        "test_a_lock_that_is_no_plain_file_is_refused_and_its_target_unchanged"
    ),
    "a file is a pipe": _IRREGULAR,
    "a file is a folder": _IRREGULAR,
    "a file is a device, or 4 GiB of zeros": _IRREGULAR,
    "a file is a link to itself, or out of the study": _IRREGULAR,
    "a folder is a link out of the study": (
        "tests/faults/test_hostile_studies.py::"
        "test_a_folder_that_is_a_link_out_of_the_study_is_not_used"
    ),
    "a file has wrong types, deep nesting or bad text": _CORRUPTED,
    "one byte of the results changes": (
        f"{_STORE}test_one_changed_byte_is_found_and_the_run_is_read_from_its_folder"
    ),
    "the results lose their end": f"{_STORE}test_a_file_without_its_end_keeps_the_other_lines",
    "a run has two lines": f"{_STORE}test_several_lines_of_a_run_are_named",
    "a later isoscale wrote the results": f"{_STORE}test_lines_of_a_later_isoscale_are_refused",
    "a run has the folder of another": f"{_STORE}test_a_run_folder_of_another_cell_is_not_used",
    "a checkpoint is cut": (
        "tests/common/checkpoint/test_damaged.py::test_a_file_truncated_at_any_place_is_refused"
    ),
    "a bit of a checkpoint flips": (
        "tests/common/checkpoint/test_damaged.py::test_a_flipped_bit_at_any_place_is_found"
    ),
    "a checkpoint is forged": (
        "tests/common/checkpoint/test_damaged.py::test_forged_manifests_are_refused"
    ),
    "an event file is damaged": (
        "tests/common/report/board/test_event_files.py::"
        "test_damaged_event_files_are_written_again_under_another_name"
    ),
    # Clocks.
    "the wall clock steps back or forward": (
        f"{_CLOCKS}test_steps_of_the_wall_clock_change_no_duration_and_no_order"
    ),
    "a session starts before an earlier one by the wall clock": (
        f"{_CLOCKS}test_a_time_budget_and_sessions_do_not_follow_the_wall_clock"
    ),
    "a run hangs while the wall clock steps": (
        f"{_CLOCKS}test_a_run_that_hangs_is_killed_in_time_while_the_wall_clock_steps"
    ),
    "a record has a negative duration": f"{_STORE}test_a_damaged_line_is_named_and_set_aside",
    # What a study tells about its user.
    "secrets in variables, flags and paths": (
        "tests/faults/test_canaries.py::test_a_study_holds_no_canary_of_its_user"
    ),
    "secrets in the error of a failed run": (
        "tests/faults/test_canaries.py::test_the_log_and_the_error_of_a_failed_run_hold_no_canary"
    ),
    # Foreign processes.
    "foreign bytes and connections on a port of a run": _FOREIGN,
    "a meeting file that others can reach": (
        "tests/common/processes/test_ranks.py::"
        "test_a_meeting_file_that_other_users_can_reach_is_refused"
    ),
}
"""Kind of fault -> ``file::test``."""
