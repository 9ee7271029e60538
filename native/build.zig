//! Builds the native library `librcm.so` and everything that checks it.
//!
//!     zig build lib      native/out/librcm.so, as it is shipped
//!     zig build abi      src/native/abi.ts from src/abi.zig
//!     zig build check    everything compiles, and src/native/abi.ts is what `abi` would write
//!     zig build test     unit tests            -Dtest-filter=text, -Doptimize=debug, -Dtsan=true
//!     zig build sim      the simulator         arguments after --
//!     zig build fuzz     the fuzzers           arguments after --
//!     zig build bench    out/bench: yardsticks, and the library driven from Zig (deno task bench)
//!     zig build tidy     the style test
//!     zig build fmt      formatting is as `zig fmt` wants it
//!
//! `deno task build`, `test`, `sim`, ... call these with the pinned Zig; `deno task zig build ...`
//! calls any of them.

const std = @import("std");
const builtin = @import("builtin");

/// The language changes with every release: one version is right, every other is refused.
const zig_version = "0.17.0";
/// What `strings librcm.so | grep "rcm version"` shows (guide, chapter 2).
const version = "1.0.0.0";
/// A glibc of 2012 and CPUs from 2013 on; the loader checks the CPU before it opens the library.
const glibc = std.SemanticVersion{ .major = 2, .minor = 17, .patch = 0 };
const target_text = "x86_64-linux-gnu.2.17";
const cpu_text = "x86_64_v3+aes+pclmul";

const Optimize = std.lang.Optimize;
const Module = std.Build.Module;

pub fn build(b: *std.Build) void {
    if (comptime !std.mem.eql(u8, builtin.zig_version_string, zig_version)) {
        @compileError("RCM is built by Zig " ++ zig_version ++ ", this is Zig " ++
            builtin.zig_version_string ++ ". Run `deno task build`, which fetches the right " ++
            "one, or: python3 -m pip install ziglang==" ++ zig_version);
    } else configure(b);
}

/// What all steps have in common.
const Options = struct {
    target: std.Build.ResolvedTarget,
    /// Null: as it suits the step, `fast` for what is shipped or measured, `safe` for what tests.
    optimize: ?Optimize,
    /// The module `build_options` of everything that is shipped: `mutants` is false.
    shipped: *std.Build.Step.Options,
    /// The simulator's: `mutants` is true, so that one binary holds all deliberate bugs.
    mutants: *std.Build.Step.Options,
    filters: []const []const u8,
    tsan: bool,
};

fn configure(b: *std.Build) void {
    const options = Options{
        .target = b.standardTargetOptions(.{ .default_target = .{
            .cpu_arch = .x86_64,
            .cpu_model = .{ .explicit = &std.Target.x86.cpu.x86_64_v3 },
            .cpu_features_add = std.Target.x86.featureSet(&.{ .aes, .pclmul }),
            .os_tag = .linux,
            .abi = .gnu,
            .glibc_version = glibc,
        } }),
        .optimize = b.option(
            Optimize,
            "optimize",
            "debug | safe | fast | small (default: as it suits the step)",
        ),
        .shipped = build_options(b, false),
        .mutants = build_options(b, b.option(
            bool,
            "mutants",
            "Deliberate bugs in the simulator, chosen at run time (default: true)",
        ) orelse true),
        .filters = b.option(
            []const []const u8,
            "test-filter",
            "Only tests whose name contains this",
        ) orelse &.{},
        .tsan = b.option(bool, "tsan", "Unit tests with ThreadSanitizer") orelse false,
    };
    const check = b.step("check", "Compile everything, compare src/native/abi.ts");

    const lib = add_library(b, options);
    b.step("lib", "Build out/librcm.so").dependOn(lib);
    b.getInstallStep().dependOn(lib);
    add_abi(b, check);
    add_tests(b, options, check);
    add_program(b, options, check, "sim", "src/sim.zig", "Run the simulator");
    add_program(b, options, check, "fuzz", "src/fuzz.zig", "Run the fuzzers");
    add_bench(b, options, check);
    add_tidy(b);

    const fmt = b.addFmt(.{
        .paths = b.pathList(&.{ "src", "bench", "build.zig", "build.zig.zon" }),
        .check = true,
    });
    b.step("fmt", "Check the formatting").dependOn(&fmt.step);
}

fn build_options(b: *std.Build, mutants: bool) *std.Build.Step.Options {
    const options = b.addOptions();
    options.addOption([]const u8, "version", version);
    options.addOption([]const u8, "target", target_text ++ " " ++ cpu_text);
    options.addOption(bool, "mutants", mutants);
    return options;
}

/// A module of the project; tests, simulator and fuzzers keep the checks of `safe`.
fn module(
    b: *std.Build,
    options: Options,
    root: []const u8,
    optimize: Optimize,
    mutants: bool,
) *Module {
    const created = b.createModule(.{
        .root_source_file = b.path(root),
        .target = options.target,
        .optimize = options.optimize orelse optimize,
        .link_libc = true,
        .omit_frame_pointer = false,
    });
    created.addOptions("build_options", if (mutants) options.mutants else options.shipped);
    return created;
}

/// The shared library. It is linked with `-z nodelete`, because Deno unloads libraries at exit
/// while their threads still run; the build system has no word for that flag, so the compiler is
/// called as a command (it has its own cache: when nothing changed this takes milliseconds).
fn add_library(b: *std.Build, options: Options) *std.Build.Step {
    const optimize: []const u8 = switch (options.optimize orelse .fast) {
        .debug => "-ODebug",
        .safe => "-OReleaseSafe",
        .fast => "-OReleaseFast",
        .small => "-OReleaseSmall",
    };
    const run = b.addSystemCommand(&.{ b.graph.zig_exe, "build-lib", "-dynamic", "--name", "rcm" });
    run.addArgs(&.{ "-z", "nodelete" });
    run.addArgs(&.{ "-target", target_text, "-mcpu", cpu_text, optimize });
    run.addArgs(&.{ "-lc", "-fPIC", "-fstrip" });
    run.addArgs(&.{ "--dep", "build_options" });
    run.setName("zig build-lib rcm");
    run.setCwd(b.path("."));
    run.has_side_effects = true; // Its sources are found by the compiler, not declared here.
    run.addPrefixedFileArg("-Mroot=", b.path("src/lib.zig"));
    run.addPrefixedFileArg("-Mbuild_options=", options.shipped.getOutput());
    const library = run.addPrefixedOutputFileArg("-femit-bin=", "librcm.so");
    const update = b.addUpdateSourceFiles();
    update.addCopyFileToSource(library, "out/librcm.so");
    return &update.step;
}

/// TypeScript's view of `src/abi.zig`: written by the step `abi`, compared by the step `check`.
fn add_abi(b: *std.Build, check: *std.Build.Step) void {
    const generator = b.addExecutable(.{
        .name = "abi_gen",
        .root_module = b.createModule(.{
            .root_source_file = b.path("src/abi_gen.zig"),
            .target = b.graph.host,
            .optimize = .debug,
            .link_libc = true,
        }),
    });
    generator.root_module.addOptions("build_options", build_options(b, false));
    const write = b.addRunArtifact(generator);
    const generated = write.addOutputFileArg("abi.ts");
    const update = b.addUpdateSourceFiles();
    update.addCopyFileToSource(generated, "../src/native/abi.ts");
    b.step("abi", "Write src/native/abi.ts").dependOn(&update.step);

    const compare = b.addRunArtifact(generator);
    compare.addArg("--check");
    compare.addFileArg(b.path("../src/native/abi.ts"));
    compare.expectExitCode(0);
    b.step("abi-check", "Compare src/native/abi.ts with abi.zig").dependOn(&compare.step);
    check.dependOn(&compare.step);
}

fn add_tests(b: *std.Build, options: Options, check: *std.Build.Step) void {
    const root = module(b, options, "src/tests.zig", .safe, false);
    root.sanitize_thread = options.tsan;
    const tests = b.addTest(.{ .root_module = root, .filters = options.filters, .use_llvm = true });
    const run = b.addRunArtifact(tests);
    run.setCwd(b.path("."));
    run.has_side_effects = true; // Sockets, files, time: never answered from the cache.
    b.step("test", "Run the unit tests").dependOn(&run.step);
    check.dependOn(&tests.step);
}

/// A program that tests: checks stay on, arguments after `--`.
fn add_program(
    b: *std.Build,
    options: Options,
    check: *std.Build.Step,
    name: []const u8,
    root: []const u8,
    about: []const u8,
) void {
    const program = b.addExecutable(.{
        .name = name,
        .root_module = module(b, options, root, .safe, std.mem.eql(u8, name, "sim")),
        .use_llvm = true,
    });
    const run = b.addRunArtifact(program);
    run.setCwd(b.path("."));
    run.has_side_effects = true;
    run.addPassthruArgs();
    b.step(name, about).dependOn(&run.step);
    check.dependOn(&program.step);
}

/// Benchmarks measure what is shipped: everything they import is built `fast`.
fn add_bench(b: *std.Build, options: Options, check: *std.Build.Step) void {
    const root = module(b, options, "bench/bench.zig", .fast, false);
    root.addImport("rcm", module(b, options, "src/lib.zig", .fast, false));
    const program = b.addExecutable(.{ .name = "bench", .root_module = root });
    const update = b.addUpdateSourceFiles();
    update.addCopyFileToSource(program.getEmittedBin(), "out/bench");
    b.step("bench", "Build out/bench").dependOn(&update.step);
    check.dependOn(&program.step);
}

fn add_tidy(b: *std.Build) void {
    const tests = b.addTest(.{ .name = "tidy", .root_module = b.createModule(.{
        .root_source_file = b.path("src/tidy.zig"),
        .target = b.graph.host,
        .optimize = .debug,
    }) });
    const run = b.addRunArtifact(tests);
    run.setCwd(b.path("."));
    run.has_side_effects = true; // It reads the sources.
    b.step("tidy", "Run the style test").dependOn(&run.step);
}
