//! What lies in the file of counters (`counters_file.zig`), for both languages: layouts and nothing
//! else. The file's header is the one of all files in shared memory (`window/node.zig`).

const assert = @import("../assert.zig").assert;
const limits = @import("../limits.zig");
const FileHeader = @import("../window/node.zig").FileHeader;

/// Of the header's page: behind the `FileHeader`.
pub const page_offset = 512;

/// What a section is about.
pub const SectionKind = enum(u32) {
    /// One sending window, `index` in the order of transmitters and their partitions.
    tx = 1,
    /// The receiving side: counters of the context, and the order.
    rx = 2,
    /// Streams `index` * `streams_per_section` and following.
    streams = 3,
};

pub const streams_per_section = 32;

/// Behind the file's header. Written before the header gets its magic number.
pub const CountersPage = extern struct {
    /// Hash of the library's interface, which has the layouts of what lies in sections.
    abi_hash: u32,
    context_id: u32,
    /// How often a section is written at most.
    interval_ms: u32,
    section_count: u32,
    /// From the file's begin.
    text_offset: u32,
    text_bytes: u32,
    sections_offset: u32,
    pad: u32 = 0,
    /// When the context started: Unix milliseconds.
    started_ms: u64,
};

/// In front of each section's `capacity` bytes; the next section follows behind them.
pub const CountersSection = extern struct {
    /// Odd while the section is being written.
    sequence: u64,
    /// Milliseconds of the monotonic clock when it was written; 0: never.
    stamp_ms: u64,
    capacity: u32,
    /// Bytes of the snapshot.
    bytes: u32,
    kind: SectionKind,
    index: u32,
};

comptime {
    assert(@sizeOf(CountersPage) == 40 and @sizeOf(CountersSection) == 32);
    assert(page_offset >= @sizeOf(FileHeader));
    assert(page_offset + @sizeOf(CountersPage) <= limits.page_bytes);
}
