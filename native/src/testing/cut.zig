//! Places between two steps of one process where another one may come in between. They exist only
//! in the simulator's build; in the library `at` is nothing.

const build_options = @import("build_options");

pub const Point = enum {
    /// A receiver has stored what it claims, and will look at what was reclaimed.
    claim,
    /// A receiver has seen the tag of a node, and will read the node.
    node,
    /// A sender has stored what it reclaims, and will look at claims.
    release,
    /// A sender has written the fields of a node, and will store its tag.
    tag,
};

/// Set by the simulator for a run.
pub var hook: ?*const fn (point: Point) void = null;

pub inline fn at(point: Point) void {
    if (!build_options.mutants) return;
    if (hook) |h| h(point);
}
