//! Runs the deliberate bugs: each must be caught by a checker.

const std = @import("std");
const mutant_file = @import("mutant.zig");
const Mutant = mutant_file.Mutant;

pub fn run_all(out: *std.Io.Writer) !u64 {
    _ = out;
    return 0;
}

pub fn run_one(out: *std.Io.Writer, mutant: Mutant) !u64 {
    _ = out;
    _ = mutant;
    return 0;
}
