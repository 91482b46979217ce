//! Build support for programs that run without a host's C library: images, and the shim.
//!
//! To make an image:
//! 1. `Cargo.toml`: depend on `paravane-libc`, build-depend on `paravane-link`, and give the
//!    `[[bin]]` `test = false`, as a test harness cannot run without a host's C library.
//! 2. `build.rs`: `fn main() { paravane_link::image(); }`
//! 3. `main.rs`: an ordinary `fn main()`, and before it `paravane_libc::image!(Manifest::new("name", 8 << 20,
//!    &[]));` with the `Manifest` of `paravane_libc::abi::manifest`.
//! 4. `cargo build --release -p NAME`, then `paravane run target/release/NAME`.
//!
//! Only binaries of the package that calls [`image`] are linked this way; host programs in the same
//! workspace are not affected.
use std::path::Path;

const IMAGE_SCRIPT: &str = include_str!("../image.ld");
const SHIM_SCRIPT: &str = include_str!("../shim.ld");

/// Linker arguments: static, at a fixed address, with nothing of the host's C library.
const LINK_ARGUMENTS: [&str; 8] = [
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,-z,max-page-size=4096",
    "-Wl,-z,noexecstack",
    "-Wl,--build-id=none",
    "-Wl,--no-eh-frame-hdr",
];

/// Libraries that rustc names on every link line of this target. Their place is taken by
/// `paravane-libc`, so the linker is shown empty ones.
const REPLACED_LIBRARIES: [&str; 9] =
    ["gcc_s", "gcc_eh", "gcc", "util", "rt", "pthread", "m", "dl", "c"];

/// An `ar` archive without members.
const EMPTY_ARCHIVE: &str = "!<arch>\n";

/// Links the binaries of the package whose `build.rs` calls this as images.
///
/// # Panics
/// Outside a build script, or if the build directory cannot be written: the build fails.
pub fn image() {
    link(IMAGE_SCRIPT);
}

/// Links the binaries of the package whose `build.rs` calls this for ring 0 and physical addresses.
///
/// # Panics
/// As [`image`].
pub fn shim() {
    link(SHIM_SCRIPT);
}

fn link(text: &str) {
    let out_dir = std::env::var("OUT_DIR").expect("build scripts have an OUT_DIR");
    let out_dir = Path::new(&out_dir);
    let script = out_dir.join("script.ld");
    write(&script, text);
    for library in REPLACED_LIBRARIES {
        write(&out_dir.join(format!("lib{library}.a")), EMPTY_ARCHIVE);
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-L{}", out_dir.display());
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
    for argument in LINK_ARGUMENTS {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        panic!("cannot write {}: {error}", path.display());
    }
}
