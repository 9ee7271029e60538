//! Deliberate bugs that show that the checkers bite. They exist only in the simulator's build
//! (`build_options.mutants`); in the library every `on` is false at compile time and the branch
//! vanishes. `sim --mutants` switches them on one after another, and each must be caught.

const build_options = @import("build_options");

pub const Mutant = enum {
    none,
    /// The receiver acknowledges what it has heard of, not what is in its log.
    ack_highest,
    /// The receiver moves over a gap as if nothing was missing.
    skip_gap,
    /// A datagram that was taken is taken again.
    take_duplicates,
    /// The sender frees what is sent, acknowledged or not.
    reclaim_unacked,
    /// The window follows the fastest receiver instead of the slowest.
    release_by_fastest,
    /// Heartbeats do not tell of the last message.
    heartbeat_silent,
    /// The receiver never asks for what it missed.
    nak_never,
    /// The receiver asks at every tick.
    nak_storm,
    /// A repair starts one message late.
    repair_late,
    /// A lower connection resets a stream.
    stale_connection,
    /// MESSAGE_LOSS names a range that is one too short.
    loss_short,
    /// A loss is passed without MESSAGE_LOSS.
    loss_silent,
    /// A receiver without a position begins at the first datagram that happened to arrive.
    join_anywhere,
    /// Checksums are not looked at.
    check_ignored,
    /// A session takes effect without the challenge.
    challenge_skipped,
    /// Acknowledgements need no token.
    token_ignored,
    /// An acknowledgement beyond what was written is believed.
    ack_beyond_written,
    /// The sender never pauses for its window.
    window_ignored,
    /// A fragment is placed without looking at its number.
    fragment_misplaced,
    /// The hold-off and the queue of repairs do not suppress anything.
    repair_no_hold_off,
    /// After a new connection the receiver forgets its position.
    position_forgotten,
    /// A sender's silence is not noticed.
    silence_unnoticed,
    /// A receiver's silence is not noticed.
    dead_holds,
    /// What was recorded and is played again is taken for new.
    replay_accepted,
    /// A message of one connection is completed with bytes of the next.
    mixed_connections,
    /// The cache is never given up for new messages.
    cache_blocks,
    /// MESSAGE_LOSS comes without OUT_OF_SYNC.
    out_of_sync_forgotten,
    /// What lies in the way of a message stays there.
    room_never_made,
    /// A gap is a loss as soon as it was asked for once in vain.
    give_up_at_once,
    /// Messages numbered while the send flag is off are sent all the same.
    flag_ignored,
    /// Heartbeats never become fewer.
    heartbeats_hurry,
    /// FILL_GAP at every request.
    gaps_told_always,
    /// An answer to SYN ends the session in force before the new one is taken.
    offer_replaces,
    /// Memory that a receiver reads in place is given back under it.
    claims_ignored,
    /// A node's tag is stored before the rest of it.
    tag_first,
    /// `written` is moved before the node is there.
    written_first,
    /// The complement that is stored with a cursor is the one before.
    mirror_late,
    /// Memory is freed before `reclaimed` says so.
    freed_first,
    /// When the numbers jump, `base` moves last.
    base_last,
    /// The arena gets its new generation before the windows know it.
    generation_early,
    /// Recovery does not look whether the arena is of the window's generation.
    generation_ignored,
    /// Recovery goes on from what was sent, acknowledged or not.
    recovered_from_sent,
    /// Recovery does not look for a message that was numbered last.
    tail_ignored,
    /// Recovery believes a damaged node.
    damage_believed,
    /// Recovery does not hold the memory of the messages that it keeps.
    kept_not_held,
    /// Recovery begins the numbers anew.
    numbers_anew,
    /// Recovery forgets the last connection.
    connection_forgotten,
    /// What a receiver claims is kept only until its sender looks at it next.
    pins_dropped,
    /// A receiver looks at what was reclaimed first, and claims then.
    claim_late,
    /// A message that is read in place counts as processed as soon as it is taken.
    ack_taken,
    /// A new session begins behind what was taken, processed or not.
    position_taken,
    /// A sender without numbers is told of what was processed instead of what was taken.
    first_processed,
    /// What a dead receiver claimed is never given back.
    dead_keeps_pins,
    /// What a receiver that is dead has said and processed last is not looked at.
    last_words_lost,
    /// The death of a receiver is noticed by its silence only.
    dead_unnoticed,
    /// A node that was overwritten while it was read counts.
    tag_unchecked,
    /// A node keeps its old tag while its fields become another number's.
    tag_kept,
    /// Who reads in place takes what was numbered while the send flag was off.
    flag_ignored_in_place,
    /// Where the program acknowledges, what the log has counts as processed.
    manual_ack_logged,
    /// The window waits for what was processed, not for what was taken.
    manual_holds_window,
    /// A tier holds the window only while a member of it is connected.
    tier_not_mandatory,
    /// The window follows the member of a tier that has least.
    tier_lowest_ack,
    /// A tier's position is what one of its members said last.
    tier_goes_back,
    /// A message that its tier can't commit in parts must fit in the window.
    tier_stops_inside,
    /// A new leader of a sending tier begins with what it writes from now on.
    leader_from_written,
    /// A follower of a sending tier gives up what it has numbered.
    follower_keeps_nothing,
    /// A receiver does not look at the epoch of a tier's stream.
    epoch_ignored,
    /// A receiver takes a tier's new leader for a new stream.
    leader_begins_anew,
    /// What an observer of a tier has counts for the tier.
    tier_observer_counts,
    /// A promise is stored as if the epoch's log had been taken over.
    tier_promise_as_adopted,
    /// What lies above the epoch's first sqn stays when the epoch is adopted.
    tier_adopt_untruncated,
    /// A promise is not forced to the disk before it is given.
    tier_promise_volatile,
    /// The recorded master leads alone, whatever is established.
    tier_recorded_master,
    /// S is who is in `classer`, in sync or not.
    tier_s_from_classer,
    /// Before (S, need) changes only what is committed is looked at.
    tier_grow_after_committed,
    /// While a change of (S, need) is under way the old pair alone commits.
    tier_old_pair_commits,
    /// An answer to a join counts for any start.
    tier_join_without_nonce,
    /// Epochs in `master` are not looked at.
    tier_master_unread,
    /// `established` is written whatever version `master` has.
    tier_establish_blindly,
    /// `established` is written before the epoch is adopted.
    tier_establish_first,
    /// A leader promises a higher epoch and goes on committing.
    tier_promise_and_commit,
    /// A restart makes a log intact.
    tier_intact_by_restart,
    /// A join is answered with what is committed.
    tier_join_committed,
    /// Acknowledgements of an earlier start count.
    tier_old_start_acks,
    /// Acknowledgements of an earlier epoch count.
    tier_old_epoch_acks,
    /// A winner without an intact log counts itself.
    tier_blank_winner_counts,
    /// When the freshest log can't be had the next best one is taken, enough or not.
    tier_next_best,
    /// Whoever wins takes what the operator allowed another member.
    tier_forced_by_anybody,
    /// Where a log is on an older epoch's branch, the longer one is the fresher.
    tier_longest_log,
    /// Followers acknowledge what is not forced yet.
    tier_ack_unforced,
    /// A new leader goes on behind transactions that are not committed.
    result_uncommitted,
    /// What a program made in an earlier reign becomes a transaction of the next one.
    result_of_old_reign,
    /// A program is given what it made itself.
    result_own_again,
    /// With `SyncMode` 1 senders are told before what was made of their messages is committed.
    result_told_early,
    /// What is about to be forced is acknowledged.
    forced_at_once,
    /// The file that was left is not forced.
    old_unforced,
    /// The log goes on in a segment of a file that was left.
    segment_left_open,
    /// Replay begins one message late.
    replay_skips,
    /// Recovery does not look at the checks of records.
    torn_believed,
    /// A stream that the record knows begins as a stranger.
    restore_forgotten,
    /// A disk that refuses to force data does not end the recording.
    failure_ignored,
    /// A force that is under way counts as over.
    force_unawaited,
    /// A message that is complete after its file was left is not forced once more.
    late_unforced,
    /// Datagrams are taken before everything was replayed.
    joint_early,
    /// Recovery goes on with a segment that does not follow.
    segment_gap_believed,
    /// What is behind the end of the order stays as it is.
    behind_kept,
    /// Recovery takes the name of a stream from an entry that goes.
    named_by_what_goes,
    /// A stream gets no entry in a file's table.
    entry_forgotten,
};

/// Set by the simulator before a run; never by the library.
pub var active: Mutant = .none;

pub inline fn on(comptime mutant: Mutant) bool {
    if (!build_options.mutants) return false;
    return active == mutant;
}
